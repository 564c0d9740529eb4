"""What the server remembers of projects."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from edge_fakes import FakeJobs

from ml_backend.errors import LabelStudioError
from ml_backend.http import projects as module
from ml_backend.http.events import pass_on
from ml_backend.http.messages import WebhookRequest, parse_request, project_created_at
from ml_backend.http.projects import KnownProjects
from ml_backend.lines import Connected, ProjectSettings
from training.errors import DataError


class _Listing:
    """The connected projects, and how often they were listed."""

    def __init__(self, *projects: int) -> None:
        self.projects = list(projects)
        self.fault: Exception | None = None
        self.times = 0

    def __call__(self) -> list[Connected]:
        self.times += 1
        if self.fault:
            raise self.fault
        return [Connected(number, f"project-{number}", ProjectSettings(), "") for number in self.projects]


def _known(listing: Any = None) -> KnownProjects:
    return KnownProjects(lambda: 0.0, listing)


def _until_listed(known: KnownProjects, project_id: int, wanted: bool | None) -> None:
    ends = time.monotonic() + 10
    while known.is_connected(project_id) is not wanted:
        assert time.monotonic() < ends
        threading.Event().wait(0.01)


def test_a_setup_without_settings_erases_nothing() -> None:
    """Label Studio sends null in the middle of a change; an empty object means that nothing is set."""
    known = _known()
    assert known.setup(7, 5.0, {"line": "shared"}).line == "shared"
    assert known.setup(7, 5.0, None).line == "shared"
    assert known.of(7).line == known.line_of(7) == "shared"
    assert known.on("shared") == [7]
    with pytest.raises(DataError):
        known.setup(7, 5.0, {"line": "No"})
    assert known.of(7).line == "shared"
    assert known.setup(7, 5.0, {}).line == "project-7"


def test_an_unknown_project_has_its_own_line() -> None:
    """So has one that calls without settings; no project at all is the default line."""
    known = _known()
    assert (known.of(8).line, known.line_of(8)) == ("project-8", None)
    assert known.of(None).line == known.setup(0, None, {"line": "a"}).line == "default"


def test_creation_is_read_from_what_label_studio_writes() -> None:
    """`12.1795380917` is project 12, created at that time."""
    assert project_created_at("12.1795380917") == 1795380917.0
    assert [project_created_at(value) for value in ("12", "12.", 12, None, "12.x")] == [None] * 5


def test_an_event_of_a_foreign_project_starts_nothing(jobs: FakeJobs) -> None:
    """Once the connected projects are listed, events of others are answered with the reason; until then they are passed
    on, as the worker has the last word. Judgements are passed on all the same, so that the status says the reason.
    """
    known = _known(_Listing(7))

    def tell(action: str, project: int) -> dict[str, Any]:
        event = parse_request(WebhookRequest, {"action": action, "project": {"id": project}})
        return pass_on(event, jobs, known)  # type: ignore[arg-type]

    assert tell("ANNOTATION_CREATED", 9)["status"] == "queued"
    _until_listed(known, 9, False)
    jobs.calls.clear()
    for action in ("ANNOTATION_CREATED", "TASKS_CREATED"):
        answer = tell(action, 9)
        assert answer["status"] == "ignored"
        assert answer["message"].startswith("Project 9 isn't connected to this backend, so nothing starts")
    answer = tell("START_TRAINING", 9)
    assert (answer["status"], answer["job"]) == ("refused", None)
    assert [call for call in jobs.calls if call != ("judgement", 9)] == []
    assert jobs.calls.count(("judgement", 9)) == 1
    jobs.calls.clear()
    tell("START_TRAINING", 7)
    assert (jobs.calls, jobs.lines) == ([("train", 7)], ["project-7"])


def test_a_project_that_was_just_connected_counts() -> None:
    """Its /setup is proof, even if the list is older."""
    known = _known(_Listing(7))
    _until_listed(known, 9, False)
    known.setup(9, None, None)
    assert known.is_connected(9) is True


def test_a_list_that_cannot_be_had_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is turned away while Label Studio doesn't answer, and an old list isn't trusted for long."""
    listing = _Listing(7)
    known = _known(listing)
    _until_listed(known, 9, False)
    listing.fault = LabelStudioError("it is away")
    monkeypatch.setattr(module, "REFRESH_S", 0.0)
    monkeypatch.setattr(module, "TRUSTED_S", 0.0)
    assert known.is_connected(9) is None
    assert known.is_connected(7) is True


def test_a_burst_of_events_lists_once() -> None:
    """And no event waits for it."""
    listing = _Listing(7)
    known = _known(listing)
    began = time.monotonic()
    for _ in range(100):
        known.is_connected(7)
    assert time.monotonic() - began < 1.0
    _until_listed(known, 7, True)
    assert listing.times == 1


def test_without_a_key_nothing_is_known() -> None:
    """The server then passes everything on."""
    assert _known().is_connected(7) is None
