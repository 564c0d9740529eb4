"""The doctor's findings: what it reports about well and badly configured projects, and about the machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ml_backend.doctor import examination
from ml_backend.doctor.backend import examine_backend
from ml_backend.doctor.findings import Finding, Verdict, guarded
from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.credentials import Guard
from ml_backend.label_studio.records import MLBackend, Project, Webhook
from ml_backend.settings import Settings, load_settings

LIVE = (Path(__file__).parents[4] / "label_config.xml").read_text(encoding="utf-8")
ADDRESS = BackendAddress("http://localhost:9090", "rankloop", Guard(("u", "p"), "s"))
HEADERS = ADDRESS.webhook_headers()


@dataclass
class FakeProject:
    """A fake of the parts of Label Studio that the doctor reads for one project."""

    project: Project = field(
        default_factory=lambda: Project(7, "Tea", LIVE, "rankloop", shows_predictions=True, tasks=3, judgements=0)
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
        """Label Studio's answer to a new webhook."""
        if self.refusal:
            raise self.refusal
        return Webhook(99, url, headers, active=True, all_actions=True, payload=True)

    def remove_webhook(self, webhook_id: int) -> None:
        """Accept only the removal of the doctor's own probe."""
        assert webhook_id == 99


def _findings(server: FakeProject, address: BackendAddress = ADDRESS) -> list[Finding]:
    return list(examination.examine_project(server, server.project, address))  # type: ignore[arg-type]


def _wrong(findings: list[Finding]) -> list[str]:
    return [f"{finding.detail} | {finding.remedy}" for finding in findings if finding.verdict is Verdict.WRONG]


def test_a_project_that_is_wired_well_has_nothing_wrong() -> None:
    """Config, backend and webhook each pass."""
    findings = _findings(FakeProject())
    assert [finding.verdict for finding in findings] == [Verdict.OK] * 3
    assert "live" in findings[0].detail
    assert "rankloop-v1" in findings[1].detail


def test_each_fault_is_found_with_its_remedy() -> None:
    """With one thing broken at a time, the finding names it and the remedy."""
    good = FakeProject()
    backend, hook = good.rows[0], good.hooks[0]
    other = replace(backend, id=0, url="http://localhost:9999")
    cases: list[tuple[FakeProject, str]] = [
        (FakeProject(project=replace(good.project, label_config="<View/>")), "--label-config"),
        (FakeProject(project=replace(good.project, shows_predictions=False)), "don't see predictions"),
        (FakeProject(rows=[]), "isn't connected"),
        (FakeProject(rows=[other, backend]), "http://localhost:9999"),
        (FakeProject(rows=[replace(backend, state="DI")]), "can't use the backend"),
        (FakeProject(rows=[replace(backend, basic_auth_user="")]), "Basic credentials"),
        (FakeProject(hooks=[]), "no webhook"),
        (FakeProject(hooks=[hook, replace(hook, id=2)]), "twice"),
        (FakeProject(hooks=[replace(hook, headers={})]), "aren't the backend's"),
        (FakeProject(hooks=[replace(hook, active=False)]), "inactive"),
    ]
    for server, said in cases:
        found = _wrong(_findings(server))
        assert len(found) == 1, (said, found)
        assert said in found[0]


def test_a_protection_against_private_addresses_is_named() -> None:
    """If Label Studio refuses the backend's address, the finding names the settings that allow it."""
    refusal = LabelStudioError(
        "refused", got="403 reserved network", remedy="SSRF_PROTECTION_ENABLED=false", status=403
    )
    found = _wrong(_findings(FakeProject(rows=[], hooks=[], refusal=refusal)))
    assert any("SSRF_PROTECTION_ENABLED=false" in line for line in found)


def test_a_host_name_without_a_dot_is_a_trap_of_its_own() -> None:
    """Label Studio connects to such a backend, but never sends it a judgement."""
    address = BackendAddress("http://ml-backend:9090", "rankloop", Guard())
    backend = MLBackend(1, 7, address.url, "rankloop", "CO", "", "rankloop-v1", "")
    found = _wrong(_findings(FakeProject(rows=[backend], hooks=[]), address))
    assert len(found) == 1
    assert "with a dot" in found[0]


def test_a_full_disk_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free space is wrong; enough is fine."""
    assert [finding.verdict for finding in examination._disk(settings)] == [Verdict.OK]
    monkeypatch.setattr(examination, "MIN_FREE_BYTES", 2**80)
    assert [finding.verdict for finding in examination._disk(settings)] == [Verdict.WRONG]


def test_a_model_that_is_not_there_is_a_finding_and_not_a_crash(settings: Settings) -> None:
    """A failing check doesn't stop the others; its finding says how to fix it."""
    missing = settings.model_copy(update={"model": "/nowhere/at/all"})
    findings = list(guarded("model", lambda: examination._model(missing)))
    assert [finding.verdict for finding in findings] == [Verdict.WRONG]
    assert findings[0].remedy


def test_a_model_that_loads(settings: Settings, tiny_model_dir: Path) -> None:
    """A model folder is loaded, including its tokenizer."""
    there = settings.model_copy(update={"model": str(tiny_model_dir)})
    assert [finding.verdict for finding in examination._model(there)] == [Verdict.OK]


@pytest.mark.parametrize(("status", "said"), [(200, "answers"), (401, "refuses our credentials")])
def test_the_backend_is_asked_itself(status: int, said: str, settings: Settings) -> None:
    """A running backend is fine; one with other credentials isn't."""
    with _backend_that_answers({"/setup": status}) as port:
        findings = list(examine_backend(settings.model_copy(update={"port": port})))
    assert said in findings[0].detail
    assert (findings[0].verdict is Verdict.OK) == (status == 200)


def test_a_backend_with_another_webhook_secret_is_found(settings: Settings) -> None:
    """If only webhooks would be refused, that is wrong, with a remedy."""
    own = load_settings(data_dir=settings.data_dir, webhook_secret="engine")
    with _backend_that_answers({"/webhook": 401}) as port:
        found = _wrong(list(examine_backend(own.model_copy(update={"port": port}))))
    assert len(found) == 1
    assert "webhook secret differs" in found[0]
    with _backend_that_answers({"/webhook": 202}) as port:
        assert _wrong(list(examine_backend(own.model_copy(update={"port": port})))) == []


def test_what_the_backend_says_of_itself_is_told(settings: Settings) -> None:
    """A champion that can't be loaded is wrong; recently failed requests are a warning, old ones are ignored."""
    fault = {"kind": "JobsError", "route": "/webhook", "request_id": "abc", "message": "the queue is away"}
    old, recent = {**fault, "at": time.time() - 7200}, {**fault, "at": time.time() - 60}
    with _backend_that_answers({}, {"fault": "v3 is damaged", "faults": [recent, old]}) as port:
        findings = list(examine_backend(settings.model_copy(update={"port": port})))
    assert "v3 is damaged" in _wrong(findings)[0]
    (looked,) = [finding for finding in findings if finding.verdict is Verdict.WARNING]
    assert looked.detail.startswith("failed requests within the past hour: 1;")
    assert "abc" in looked.remedy
    with _backend_that_answers({}, {"fault": None, "faults": [old]}) as port:
        assert len(list(examine_backend(settings.model_copy(update={"port": port})))) == 1
    with _backend_that_answers({"/status": 503}) as port:
        findings = list(examine_backend(settings.model_copy(update={"port": port})))
    assert "/status answers 503" in findings[-1].detail


def test_a_webhook_to_nobody_is_to_be_looked_at() -> None:
    """Label Studio leaves the webhook of a removed backend behind; one to anything but a backend is fine."""
    good = FakeProject()
    dead = replace(good.hooks[0], id=5, url="http://localhost:9999/webhook")
    foreign = replace(good.hooks[0], id=6, url="https://chat.example/hooks/abc")
    switched_off = replace(dead, id=7, active=False)
    findings = _findings(FakeProject(hooks=[*good.hooks, dead, foreign, switched_off]))
    assert _wrong(findings) == []
    (looked,) = [finding for finding in findings if finding.verdict is Verdict.WARNING]
    assert "http://localhost:9999/webhook" in looked.detail


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_what_the_system_refuses_is_a_finding_and_not_a_crash(settings: Settings) -> None:
    """A disk that turns out full during a check is reported in the system's words."""

    def check() -> Iterator[Finding]:
        Path("/dev/full").write_text("x")
        yield from ()

    findings = list(guarded("versions", check))
    assert [finding.verdict for finding in findings] == [Verdict.WRONG]
    assert "No space left" in findings[0].detail
    missing = settings.model_copy(update={"data_dir": Path("/dev/null/rankloop")})
    assert [finding.verdict for finding in guarded("disk", lambda: examination._disk(missing))] == [Verdict.WRONG]


def test_no_backend_is_wrong(settings: Settings) -> None:
    """If nothing is listening, the remedy is to start it."""
    with _backend_that_answers({}) as port:
        pass  # the port is free again
    findings = list(examine_backend(settings.model_copy(update={"port": port})))
    assert _wrong(findings)[0].endswith("Start it: rankloop up")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that keep to a folder of their own."""
    return load_settings(data_dir=tmp_path)


class _backend_that_answers:  # noqa: N801  # a context manager, used like a function
    def __init__(self, statuses: dict[str, int], state: object = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(state if self.path == "/status" else None)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._send(None)

            def _send(self, answer: object) -> None:
                body = json.dumps(answer or {}).encode()
                self.send_response(statuses.get(self.path, 200))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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
