"""The doctor's findings on a real Label Studio, for faults that really occurred there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from recording_backend import RecordingBackend

from ml_backend.doctor.examination import examine_project
from ml_backend.doctor.findings import Finding, Verdict
from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress, connect_backend, secure_webhook
from ml_backend.label_studio.credentials import Guard
from ml_backend.label_studio.records import Project
from ml_backend.label_studio.refusals import LEGACY_REMEDY

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIVE = (Path(__file__).parents[2] / "label_config.xml").read_text(encoding="utf-8")


@pytest.fixture
def label_studio(label_studio_server: LabelStudioServer) -> Iterator[LabelStudio]:
    """A client with the legacy token."""
    with LabelStudio(label_studio_server.url, label_studio_server.token) as client:
        yield client


@pytest.fixture
def project(label_studio: LabelStudio) -> Iterator[Project]:
    """A project of live pairs, deleted after the test."""
    made = label_studio.create_project("doctor", LIVE)
    yield made
    label_studio._sdk.projects.delete(made.id)


def _findings(label_studio: LabelStudio, project: Project, address: BackendAddress) -> list[Finding]:
    return list(examine_project(label_studio, label_studio.project(project.id), address))


def _said(findings: list[Finding], verdict: Verdict) -> str:
    return " | ".join(f"{finding.detail} {finding.remedy}" for finding in findings if finding.verdict is verdict)


def test_a_connection_that_degrades_step_by_step(label_studio: LabelStudio, project: Project) -> None:
    """All is well; then a changed secret, a second backend in front, and a dead backend's leftover webhook."""
    with RecordingBackend() as running, RecordingBackend() as other:
        address = BackendAddress(running.url, "rankloop", Guard(("ada", "lovelace"), "engine"))
        connect_backend(label_studio, project.id, address)
        secure_webhook(label_studio, project.id, address)
        assert {finding.verdict for finding in _findings(label_studio, project, address)} == {Verdict.OK}

        changed = BackendAddress(running.url, "rankloop", Guard(("ada", "lovelace"), "another"))
        assert "its credentials aren't the backend's" in _said(_findings(label_studio, project, changed), Verdict.WRONG)

        second = BackendAddress(other.url, "second", Guard())
        connect_backend(label_studio, project.id, second)
        found = _findings(label_studio, project, BackendAddress(other.url, "rankloop", Guard()))
        assert f"only the first of its backends, which is {running.url}" in _said(found, Verdict.WRONG)

        for backend in label_studio.backends(project.id):
            if backend.url == other.url:
                label_studio.remove_backend(backend.id)
        label_studio.update_project(project.id, model_version="rankloop")
        found = _findings(label_studio, project, address)
        assert f"the webhook to {other.url}/webhook belongs to no backend" in _said(found, Verdict.WARNING)
        assert _said(found, Verdict.WRONG) == ""
    found = _findings(label_studio, project, address)
    assert "Label Studio can't use the backend" in _said(found, Verdict.WRONG)


def test_legacy_tokens_that_are_switched_off_are_named(label_studio_server: LabelStudioServer) -> None:
    """If a correct key is refused nevertheless, the remedy says how to get one that works."""
    with httpx.Client(base_url=label_studio_server.url, timeout=60) as person:
        found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', person.get("/user/login/").text)
        assert found
        form = {"email": label_studio_server.username, "password": label_studio_server.password}
        person.post("/user/login/", data={**form, "csrfmiddlewaretoken": found.group(1)})
        _switch(person, legacy=False)
        try:
            with (
                LabelStudio(label_studio_server.url, label_studio_server.token) as client,
                pytest.raises(LabelStudioError) as caught,
            ):
                client.whoami()
        finally:
            _switch(person, legacy=True)
    assert caught.value.remedy == LEGACY_REMEDY
    with LabelStudio(label_studio_server.url, label_studio_server.token) as client:
        assert client.whoami() == label_studio_server.username


def _switch(person: httpx.Client, *, legacy: bool) -> None:
    changed = person.post(
        "/api/jwt/settings",
        json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": legacy},
        headers={"X-CSRFToken": person.cookies["csrftoken"]},
    )
    assert changed.status_code < 300, changed.text
