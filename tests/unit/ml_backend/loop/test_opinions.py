"""The job that computes what a line's judgements say: what it reads, when it looks again, and what it does without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeRegistry
from judged_project import JudgedProject

from ml_backend.errors import LabelStudioError
from ml_backend.lines import Connections
from ml_backend.loop.opinions import LONGEST_PAUSE_S, Opinions
from ml_backend.settings import Settings
from training.data.files import PAIR_SCORES, write_pair_scores
from training.data.votes import aggregate

SEEN = {"7": "2026-01-01T00:00:00+00:00"}


class _Clock:
    """Seconds since 1970, set by the test."""

    def __init__(self) -> None:
        self.now = 1_767_225_600.0  # 2026-01-01

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """The time."""
    return _Clock()


@pytest.fixture
def project(settings: Settings) -> JudgedProject:
    """Project 7, on the default line; all of its sixty tasks are judged, every tenth of them by a skip."""
    return JudgedProject(url=settings.public_url())


@pytest.fixture
def opinions(settings: Settings, registry: FakeRegistry, project: JudgedProject, clock: _Clock) -> Opinions:
    """Hears the project's line."""
    connections = Connections(settings, registry, project.open)  # type: ignore[arg-type]
    return Opinions(settings, registry, connections, project.open, clock)  # type: ignore[arg-type]


def test_what_is_heard_is_stored_with_what_it_was_made_from(opinions: Opinions, registry: FakeRegistry) -> None:
    """The annotated tasks of the line's projects are read; skips are no judgements."""
    done = opinions.hear("default", SEEN)
    assert (done["line"], done["judgements"]) == ("default", 54)
    stored = registry.opinions("default")
    assert stored["people"]["judgements"] == 54
    assert {name: stored[name] for name in ("seen", "champion", "computed_at")} == {
        "seen": SEEN,
        "champion": "rankloop-v1",
        "computed_at": "2026-01-01T00:00:00+00:00",
    }


def test_the_next_look_waits_the_longer_the_last_one_took(
    opinions: Opinions, settings: Settings, registry: FakeRegistry, project: JudgedProject, clock: _Clock
) -> None:
    """At once at first; then a minute, or twenty times as long as the last look took, up to an hour. A worker that was
    started anew knows it from the stored document.
    """
    assert opinions.pause_s("default", SEEN) == 0.0
    opinions.hear("default", SEEN)
    assert opinions.pause_s("default", SEEN) == 60.0
    clock.now += 45
    assert opinions.pause_s("default", SEEN) == 15.0
    clock.now += 45
    assert opinions.pause_s("default", SEEN) == 0.0
    for took_s, pause_s in ((10.0, 200.0), (1000.0, LONGEST_PAUSE_S)):
        registry.heard["default"]["took_s"] = took_s
        anew = Opinions(settings, registry, opinions._connections, project.open, clock)  # type: ignore[arg-type]
        assert anew.pause_s("default", SEEN) == pause_s - 90


def test_a_line_without_judgements_is_not_looked_at(opinions: Opinions) -> None:
    """Until there was one; when all are deleted later on, that is heard."""
    assert opinions.pause_s("default", {}) is None
    assert not opinions.is_stale("default", {})
    opinions.hear("default", SEEN)
    assert opinions.pause_s("default", {}) == 60.0


def test_reconciliation_finds_newer_judgements_and_another_champion(opinions: Opinions, registry: FakeRegistry) -> None:
    """A look that couldn't be taken says nothing."""
    assert not opinions.is_stale("default", None)
    assert opinions.is_stale("default", SEEN)
    opinions.hear("default", SEEN)
    assert not opinions.is_stale("default", SEEN)
    assert opinions.is_stale("default", {"7": "2026-01-02T00:00:00+00:00"})
    registry.promote("rankloop-v2")
    assert opinions.is_stale("default", SEEN)


def test_what_cannot_be_read_is_not_tried_in_circles(
    opinions: Opinions, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconciliation, which comes every five minutes, asks again after an hour, or when there are newer judgements."""

    def refuse(_project_id: int) -> Any:
        raise LabelStudioError("Label Studio refused to export project 7", status=403)

    with monkeypatch.context() as broken:
        broken.setattr(JudgedProject, "export_tasks", lambda _self, project_id: refuse(project_id))
        with pytest.raises(LabelStudioError):
            opinions.hear("default", SEEN)
        assert not opinions.is_stale("default", SEEN)
        assert opinions.is_stale("default", {"7": "2026-01-02T00:00:00+00:00"})
    clock.now += 3600
    assert opinions.is_stale("default", SEEN)


def test_a_project_whose_label_config_cannot_be_read_is_said_and_left_out(
    opinions: Opinions, project: JudgedProject, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of the line are heard all the same."""
    project.label_config = "<View/>"
    assert opinions.hear("default", SEEN)["judgements"] == 0
    assert "project 7 isn't heard: " in caplog.text


def test_people_decide_on_a_challenger(opinions: Opinions, registry: FakeRegistry, project: JudgedProject) -> None:
    """Verdicts on pairs of champion and challenger promote it, and the documents say how it stood."""
    registry.current()
    registry.challengers["default"] = "rankloop-v2"
    project.preferred = "rankloop-v2"
    assert opinions.is_stale("default", SEEN)
    assert opinions.hear("default", SEEN)["settled"] is True
    stored = registry.opinions("default")
    contest = stored["contest"]
    assert (contest["champion"], contest["challenger"], contest["decision"]) == (
        "rankloop-v1",
        "rankloop-v2",
        "promote",
    )
    assert (contest["pairs"], contest["wins"], contest["losses"]) == (54, 54, 0)
    assert [place["version"] for place in stored["leaderboard"]["versions"]] == ["rankloop-v2", "rankloop-v1"]
    assert registry.current().name == "rankloop-v2"
    assert opinions.hear("default", SEEN)["settled"] is False
    assert registry.opinions("default")["contest"]["decision"] == "none"


def test_people_are_compared_with_scores_of_models_that_never_saw_the_prompt(
    opinions: Opinions, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version's file has the pairs of the cross-validation; a version without it, such as the base, has none."""
    opinions.hear("default", SEEN)
    (person,) = registry.opinions("default")["people"]["people"]
    assert person["with_reward_model_pairs"] == 0
    judgements = opinions._judgements("default")
    scores = [(pair, 1.5 if number % 3 else -1.5) for number, pair in enumerate(aggregate(judgements)[:30])]
    (tmp_path / "reward").mkdir()
    write_pair_scores(tmp_path / "reward" / PAIR_SCORES, scores)
    monkeypatch.setattr(registry, "fetch", lambda _version: tmp_path)
    registry.promote("rankloop-v2")
    opinions.hear("default", SEEN)
    (person,) = registry.opinions("default")["people"]["people"]
    ties = sum(pair.is_tie for pair, _ in scores)
    assert person["with_reward_model_pairs"] == 30 - ties
    right = sum(score > 0 for pair, score in scores if not pair.is_tie)
    assert person["with_reward_model"] == pytest.approx(right / (30 - ties))
