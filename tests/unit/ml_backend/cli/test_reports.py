"""What `rankloop status` and `rankloop versions` print."""

from __future__ import annotations

import json

import pytest
from edge_fakes import FakeRegistry
from typer.testing import CliRunner

from ml_backend import loop
from ml_backend import registry as registry_package
from ml_backend.cli import people as people_command
from ml_backend.cli.app import app
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
    registry.heard["default"] = {"people": {"pairwise": 0.731}}
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
        "73%",
        "Project 9 isn't connected.",
    ):
        assert said in shown
    registry.paused["default"] = "2026-01-01T00:00:00+00:00"
    show_status(settings)
    assert "rankloop resume default" in capsys.readouterr().out


def _person(annotator: str, **figures: object) -> dict[str, object]:
    """A person of whom nothing is known but what is given."""
    unknown = ("agreement", "with_reward_model", "left")
    known = {"annotator": annotator, "judgements": 40, "ties": 0.05, "seconds_median": None, "untouched_share": None}
    known |= {f"{name}_interval": None for name in unknown} | {"agreement": None, "with_reward_model": None}
    known |= {"left_share": None, "agreement_pairs": 0, "with_reward_model_pairs": 0, "self_agreement": None}
    return {**known, "repeated_pairs": 0, "warnings": [], **figures}


def test_people_are_shown_with_intervals_and_warnings(
    settings: Settings, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row each, dashes for what isn't known, and the warnings below; `--json` prints the document as it is."""
    monkeypatch.setattr(registry_package, "Registry", lambda _settings: registry)
    monkeypatch.setattr(people_command, "settings_from", lambda: settings)
    document = {
        "judgements": 80,
        "shared_pairs": 40,
        "alpha": 0.4321,
        "alpha_interval": [0.2, 0.6],
        "pairwise": 0.715,
        "pairwise_interval": [0.6, 0.8],
        "warnings": ["People agree no better than chance would."],
        "people": [
            _person("4", left_share=1.0, left_interval=[0.91, 1.0], warnings=["Chooses the left answer [always]."]),
            _person("ann@example.com", agreement=0.5, agreement_interval=[0.35, 0.65], agreement_pairs=40),
        ],
    }
    registry.heard["default"] = {"people": document}
    shown = CliRunner().invoke(app, ["people"]).output
    for said in (
        "Two people agree on 72% (60% to 80%) of 40 pairs; Krippendorff's alpha is 0.43 (0.20 to 0.60)",
        "100% (91% to 100%)",
        "50% (35% to 65%) of 40",
        "4: Chooses the left answer [always].",
        "People agree no better than chance would.",
    ):
        assert said in " ".join(shown.split())
    assert json.loads(CliRunner().invoke(app, ["people", "default", "--json"]).output) == document
    registry.heard.clear()
    assert "Nobody has judged anything on line default yet" in CliRunner().invoke(app, ["people"]).output
