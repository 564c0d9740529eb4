"""The doctor's findings: what it says of projects that are wired well and badly, and of the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ml_backend import doctor
from ml_backend.auth import Guard
from ml_backend.connection import BackendAddress
from ml_backend.doctor import Finding, Verdict
from ml_backend.label_studio import MLBackend, Project, Webhook
from ml_backend.settings import Settings, load_settings
from training.errors import LabelStudioError

LIVE = (Path(__file__).parent.parent / "label_config.xml").read_text(encoding="utf-8")
ADDRESS = BackendAddress("http://localhost:9090", "rankloop", Guard(("u", "p"), "s"))
HEADERS = ADDRESS.webhook_headers()


@dataclass
class FakeProject:
    """As much of Label Studio as the doctor reads of one project."""

    project: Project = field(
        default_factory=lambda: Project(7, "Tea", LIVE, "rankloop", shows_predictions=True, tasks=3, labeled_tasks=0)
    )
    rows: list[MLBackend] = field(
        default_factory=lambda: [MLBackend(1, 7, ADDRESS.url, "rankloop", "CO", "", "rankloop-v1", "u")]
    )
    hooks: list[Webhook] = field(
        default_factory=lambda: [Webhook(1, ADDRESS.webhook_url, HEADERS, active=True, all_actions=True, payload=True)]
    )
    refusal: LabelStudioError | None = None

    def backends(self, _project_id: int) -> list[MLBackend]:
        """The ML backends."""
        return self.rows

    def webhooks(self, _project_id: int) -> list[Webhook]:
        """The webhooks."""
        return self.hooks

    def add_webhook(self, _project_id: int, url: str, headers: dict[str, str]) -> Webhook:
        """What Label Studio says to a new webhook."""
        if self.refusal:
            raise self.refusal
        return Webhook(99, url, headers, active=True, all_actions=True, payload=True)

    def remove_webhook(self, webhook_id: int) -> None:
        """Only the doctor's own probe may be removed."""
        assert webhook_id == 99


def _findings(server: FakeProject, address: BackendAddress = ADDRESS) -> list[Finding]:
    return list(doctor._project(server, server.project, address))  # type: ignore[arg-type]


def _wrong(findings: list[Finding]) -> list[str]:
    return [f"{finding.detail} | {finding.remedy}" for finding in findings if finding.verdict is Verdict.WRONG]


def test_a_project_that_is_wired_well_has_nothing_wrong() -> None:
    """Config, backend and webhook are each found in order."""
    findings = _findings(FakeProject())
    assert [finding.verdict for finding in findings] == [Verdict.OK] * 3
    assert "live" in findings[0].detail
    assert "rankloop-v1" in findings[1].detail


def test_each_fault_is_found_with_its_remedy() -> None:
    """One thing at a time is broken, and the finding names it and what to do."""
    good = FakeProject()
    backend, hook = good.rows[0], good.hooks[0]
    other = replace(backend, id=0, url="http://localhost:9999")
    cases: list[tuple[FakeProject, str]] = [
        (FakeProject(project=replace(good.project, label_config="<View/>")), "--label-config"),
        (FakeProject(project=replace(good.project, shows_predictions=False)), "shown no predictions"),
        (FakeProject(rows=[]), "isn't connected"),
        (FakeProject(rows=[other, backend]), "http://localhost:9999"),
        (FakeProject(rows=[replace(backend, state="DI")]), "can't use the backend"),
        (FakeProject(rows=[replace(backend, basic_auth_user="")]), "Basic credentials"),
        (FakeProject(hooks=[]), "no webhook"),
        (FakeProject(hooks=[hook, replace(hook, id=2)]), "twice"),
        (FakeProject(hooks=[replace(hook, headers={})]), "lacks the backend's credentials"),
        (FakeProject(hooks=[replace(hook, active=False)]), "switched off"),
    ]
    for server, said in cases:
        found = _wrong(_findings(server))
        assert len(found) == 1, (said, found)
        assert said in found[0]


def test_a_protection_against_private_addresses_is_named() -> None:
    """Where Label Studio refuses the backend's address, the finding names the settings that let it through."""
    refusal = LabelStudioError(
        "refused", got="403 reserved network", remedy="SSRF_PROTECTION_ENABLED=false", status=403
    )
    found = _wrong(_findings(FakeProject(rows=[], hooks=[], refusal=refusal)))
    assert any("SSRF_PROTECTION_ENABLED=false" in line for line in found)


def test_a_host_name_without_a_dot_is_a_trap_of_its_own() -> None:
    """Label Studio connects to such a backend, but never tells it of a judgement."""
    address = BackendAddress("http://ml-backend:9090", "rankloop", Guard())
    backend = MLBackend(1, 7, address.url, "rankloop", "CO", "", "rankloop-v1", "")
    found = _wrong(_findings(FakeProject(rows=[backend], hooks=[]), address))
    assert len(found) == 1
    assert "with a dot" in found[0]


def test_a_full_disk_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is wrong; enough room is fine."""
    assert [finding.verdict for finding in doctor._disk(settings)] == [Verdict.OK]
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 2**80)
    assert [finding.verdict for finding in doctor._disk(settings)] == [Verdict.WRONG]


def test_a_model_that_is_not_there_is_a_finding_and_not_a_crash(settings: Settings) -> None:
    """The examination goes on; the finding says how to mend it."""
    missing = settings.model_copy(update={"model": "/nowhere/at/all"})
    findings = list(doctor._guarded("model", lambda: doctor._model(missing)))
    assert [finding.verdict for finding in findings] == [Verdict.WRONG]
    assert findings[0].remedy


def test_a_model_that_loads(settings: Settings, tiny_model_dir: Path) -> None:
    """A model folder is loaded, tokenizer and all."""
    there = settings.model_copy(update={"model": str(tiny_model_dir)})
    assert [finding.verdict for finding in doctor._model(there)] == [Verdict.OK]


@pytest.mark.parametrize(("status", "said"), [(200, "answers"), (401, "refuses our credentials")])
def test_the_backend_is_asked_itself(status: int, said: str, settings: Settings) -> None:
    """A running backend is fine; one with other credentials isn't."""
    with _backend_that_answers(status) as port:
        findings = list(doctor._backend(settings.model_copy(update={"port": port})))
    assert said in findings[0].detail
    assert (findings[0].verdict is Verdict.OK) == (status == 200)


def test_no_backend_is_wrong(settings: Settings) -> None:
    """Nobody listens: start it."""
    with _backend_that_answers(200) as port:
        pass  # the port is free again
    findings = list(doctor._backend(settings.model_copy(update={"port": port})))
    assert _wrong(findings)[0].endswith("Start it: rankloop up")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that keep to a folder of their own."""
    return load_settings(data_dir=tmp_path)


class _backend_that_answers:  # noqa: N801  # a context manager, used like a function
    def __init__(self, setup_status: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._send(setup_status)

            def _send(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
