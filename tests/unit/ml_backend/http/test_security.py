"""Measures against strangers and harmful content; docs/security.md has the rest."""

from __future__ import annotations

import hmac
import io
import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ, run_wsgi_app

from ml_backend.errors import RegistryError
from ml_backend.http.app import create_app
from ml_backend.http.edge import MAX_BODY_BYTES
from ml_backend.label_studio import credentials
from ml_backend.label_studio.credentials import Guard
from ml_backend.registry.session import safe_id
from ml_backend.serving.proposer import Proposer
from training.errors import ModelError
from training.models.load import load_causal_lm

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt"><Choice value="answer1"/><Choice value="answer2"/></Choices></View>"""
BOMBS = [
    '<!DOCTYPE v [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><View>&c;</View>',
    '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>',
    '<!DOCTYPE v SYSTEM "http://127.0.0.1:9/v.dtd"><View/>',
]


@pytest.fixture
def client(settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry) -> FlaskClient:
    """A client of an app without credentials."""
    assert proposer.wait_until_loaded(30)
    return create_app(settings, proposer, jobs, registry).test_client()  # type: ignore[arg-type]


def test_every_credential_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong, both halves are compared by `hmac.compare_digest`, so timing doesn't reveal which."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def counted(given_bytes: bytes, wanted: bytes) -> bool:
        compared.append((given_bytes, wanted))
        return real(given_bytes, wanted)

    monkeypatch.setattr(credentials.hmac, "compare_digest", counted)
    guard = Guard(("ann", "password"), "secret")
    for username, password in [("ann", "password"), ("ann", "x"), ("x", "password"), (None, None)]:
        compared.clear()
        guard.admits(username, password)
        assert [wanted for _, wanted in compared] == [b"ann", b"password"]
        for secret in ("secret", "x", None):
            compared.clear()
            guard.admits_webhook(username, password, secret)
            assert [wanted for _, wanted in compared] == [b"secret", b"ann", b"password"]


class Endless(io.RawIOBase):
    """An endless body; records how much of it was read."""

    taken = 0

    def readable(self) -> bool:
        """The stream is readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As many spaces as requested."""
        buffer[:] = b" " * len(buffer)
        self.taken += len(buffer)
        return len(buffer)


def _chunked(app: Flask, body: Endless) -> tuple[bytes, str]:
    """POST /predict with a chunked body as gunicorn passes it on: without a length, but with an end."""
    environ = create_environ("/predict", method="POST", content_type="application/json")
    environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
    environ.pop("CONTENT_LENGTH", None)
    answer, status, _ = run_wsgi_app(app, environ)
    return b"".join(answer), status


def test_a_body_without_a_length_is_limited_too(client: FlaskClient) -> None:
    """A chunked body that never ends is rejected at the limit."""
    body = Endless()
    answer, status = _chunked(client.application, body)
    assert status.startswith("413")
    assert body.taken < MAX_BODY_BYTES + 2**20
    assert "MB" in json.loads(answer)["error"]


def test_a_stranger_s_body_is_not_read(
    settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry
) -> None:
    """A request without credentials is rejected before a byte of its body is read."""
    closed = settings.model_copy(update={"basic_auth_user": "ann", "basic_auth_pass": _Password()})
    app = create_app(closed, proposer, jobs, registry)  # type: ignore[arg-type]
    body = Endless()
    assert _chunked(app, body)[1].startswith("401")
    assert body.taken == 0


class _Password:
    def get_secret_value(self) -> str:
        return "secret"


@pytest.mark.parametrize("path", ["/setup", "/predict"])
@pytest.mark.parametrize("bomb", BOMBS, ids=["expanding", "file", "network"])
def test_entities_are_refused_at_the_door(client: FlaskClient, path: str, bomb: str) -> None:
    """Entity bombs and external entities in a labeling configuration: 400 at once, with nothing read or expanded."""
    began = time.monotonic()
    body = {"tasks": [{"id": 1, "data": {"prompt": "Tea?"}}], "schema": bomb, "label_config": bomb}
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert "DOCTYPE" in answer.json["error"]
    assert "root:" not in answer.text
    assert time.monotonic() - began < 5


def test_markup_stays_text(client: FlaskClient) -> None:
    """A prompt with a script in it is text in a JSON answer, which no browser renders as a page; so are errors."""
    body = {"tasks": [{"id": 1, "data": {"prompt": SCRIPT}}], "project": "1.5", "label_config": LIVE}
    refused = {"action": SCRIPT, "project": {"id": SCRIPT}}
    for answer in (client.post("/predict", json=body), client.post("/webhook", json=refused), client.get(f"/{SCRIPT}")):
        assert answer.content_type == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        json.loads(answer.text)
    regions = client.post("/predict", json=body).json["results"][0]["result"]
    assert {region["type"] for region in regions} == {"textarea"}  # which Label Studio shows as text


@given(st.text(max_size=40))
def test_no_id_leads_out_of_its_folder(value: str) -> None:
    """A path component must be one plain name: no separator, no parent folder, not empty."""
    try:
        name = safe_id(value)
    except RegistryError:
        return
    assert (Path("/data") / name).resolve().parent == Path("/data")


@pytest.mark.parametrize("value", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "a\x00", "a\n", "-rf", "x" * 200])
def test_ids_that_are_paths_are_refused(value: str) -> None:
    """The usual escapes are rejected."""
    with pytest.raises(RegistryError):
        safe_id(value)


@pytest.mark.parametrize("project", ["../../etc", "1/../2", "1%2f2", "-1", "1e3", [1], {"id": 1}, True and "x"])
def test_a_project_is_a_number_or_refused(client: FlaskClient, jobs: FakeJobs, project: Any) -> None:
    """Folders and jobs are named after a project's number, never after the text that was sent."""
    answer = client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": project}})
    assert answer.status_code == 400
    assert jobs.calls == []


class _Payload:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_never_loaded(tiny_model_dir: Path, tmp_path: Path, name: str) -> None:
    """Weights are loaded only from safetensors: a pickle in their place is refused, and not executed."""
    folder, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(_Payload(mark)))
    with pytest.raises(ModelError, match="safetensors"):
        load_causal_lm(str(folder), "cpu")
    assert not mark.exists()
