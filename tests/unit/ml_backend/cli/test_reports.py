"""What `rankloop status` and `rankloop versions` print."""

from __future__ import annotations

import pytest
from edge_fakes import FakeRegistry

from ml_backend import loop
from ml_backend import registry as registry_package
from ml_backend.cli.reports import proposal_line, show_status
from ml_backend.settings import Settings


@pytest.mark.parametrize(
    ("state", "stored", "left", "line"),
    [
        ("queued", 0, None, "for project 7: queued"),
        ("running", 0, None, "for project 7: 0 stored, counting tasks"),
        ("running", 500, 4500, "for project 7: 500 stored, 4500 tasks left"),
    ],
)
def test_background_proposals_tell_how_far_they_are(state: str, stored: int, left: int | None, line: str) -> None:
    """A queued job says so; a running one says how many proposals are stored and how many tasks are left."""
    assert proposal_line({"project_id": 7, "state": state, "stored": stored, "left": left}) == line


class _Jobs:
    """A busy job queue."""

    def __init__(self, _settings: Settings) -> None:
        """Connects to nothing."""

    def status(self) -> dict[str, object]:
        """5,000 tasks of one project in progress, another project waiting."""
        running = {"project_id": 7, "state": "running", "stored": 500, "left": 4500}
        queued = {"project_id": 8, "state": "queued", "stored": 0, "left": None}
        look = {"line": "default", "projects": [[7, 41]], "why": "9 more judgements (41 of 50 are there)"}
        foreign = {"line": None, "projects": [[9, 0]], "why": "Project 9 isn't connected."}
        return {"proposing": [running, queued], "waiting": [look, foreign]}

    def cycles(self, _limit: int) -> list[object]:
        """No training yet."""
        return []


def test_status_shows_progress_and_what_training_waits_for(
    settings: Settings, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows the champion, the progress of proposals, the new judgements, and what a line waits for."""
    registry.promote("rankloop-v2")
    monkeypatch.setattr(registry_package, "Registry", lambda _settings: registry)
    monkeypatch.setattr(loop, "Jobs", _Jobs)
    show_status(settings)
    shown = capsys.readouterr().out
    for said in (
        "rankloop-v2",
        "project 7: 500 stored, 4500 tasks left",
        "project 8: queued",
        "7 (41 new judgements)",
        "9 more judgements",
        "Project 9 isn't connected.",
    ):
        assert said in shown
    registry.paused["default"] = "2026-01-01T00:00:00+00:00"
    show_status(settings)
    assert "rankloop resume default" in capsys.readouterr().out
