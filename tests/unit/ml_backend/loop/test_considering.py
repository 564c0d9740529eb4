"""Looks at lines, with a real registry and a simulated clock: what fails is recorded, and not repeated for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from job_fakes import LABEL_CONFIG, FakeProjects

from ml_backend.lines import Connections
from ml_backend.loop.considering import Considering
from ml_backend.loop.cycle import CycleSteps, Plan
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings


class _Project(FakeProjects):
    """Project 7 with fifty judgements, then more; its label config can't be used."""

    def __init__(self, url: str, **params: Any) -> None:
        super().__init__({7: url}, extra_params={7: params})
        self.made = 50
        self.label_config = "<View/>"

    def project(self, project_id: int) -> Any:
        found = super().project(project_id)
        found.label_config = self.label_config
        return found

    def judgements_since(self, _project_id: int, since: str | None) -> tuple[int, str | None]:
        moments = [f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00" for number in range(self.made)]
        new = [moment for moment in moments if since is None or moment > since]
        return len(new), max(new, default=None)


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A real registry."""
    return Registry(mlflow_settings)


@pytest.fixture
def project(mlflow_settings: Settings) -> _Project:
    """The project."""
    return _Project(mlflow_settings.public_url())


class _Clock:
    """The time, far from the real one, as seen from the newest attempt."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.passed_s = 0.0

    def __call__(self) -> float:
        past = self._registry.attempts("project-7")
        return (past[0].ended_at or past[0].began_at if past else 0.0) + self.passed_s


@pytest.fixture
def clock(registry: Registry) -> _Clock:
    """Seconds since the newest attempt, set by the test."""
    return _Clock(registry)


@pytest.fixture
def considering(mlflow_settings: Settings, registry: Registry, project: _Project, clock: _Clock) -> Considering:
    """Looks at the project's line."""
    connections = Connections(mlflow_settings, registry, project.open)
    return Considering(mlflow_settings, registry, connections, project.open, clock)


@pytest.fixture
def steps(mlflow_settings: Settings, registry: Registry, project: _Project) -> CycleSteps:
    """The steps of its cycles."""
    return CycleSteps(mlflow_settings, registry, project.open)


def _fail(steps: CycleSteps, job: str, given: dict[str, Any] | None = None, *, cause: str = "DataError") -> None:
    """A cycle that begins and then fails."""
    run_id = steps.attempt(7, job, "judgements", given or {})
    Plan(**steps.begin(7, job, run_id, "judgements"))
    steps.end(run_id, "failed", "the label config can't be used", cause)


def test_a_cycle_that_fails_uses_its_judgements_up(
    steps: CycleSteps, considering: Considering, project: _Project, clock: _Clock
) -> None:
    """START_TRAINING for a project whose label config can't be used: the failure stands, and nothing follows it until
    there are as many new judgements as the threshold asks for, and the pause is over.
    """
    assert considering.project(7)["start"]
    _fail(steps, "cycle-7-a")
    clock.passed_s = 1e9
    look = considering.project(7)
    assert (look["start"], look["new"]) == (False, 0)
    assert look["why"] == "50 more judgements after the failed cycle (0 of 50 are there)"
    project.made += 50
    assert considering.project(7)["start"]
    clock.passed_s = 299.0
    look = considering.project(7)
    assert not look["start"]
    assert look["until"] == pytest.approx(clock() + 1.0)
    assert look["why"].startswith("a pause until ")


def test_a_cycle_that_fails_before_it_begins_uses_up_what_it_was_started_for(
    steps: CycleSteps, considering: Considering, clock: _Clock
) -> None:
    """The judgements that an automatic cycle was queued for are recorded with the attempt itself."""
    look = considering.project(7)
    run_id = steps.attempt(7, "cycle-7-a", "judgements", {"line": look["line"], "seen": look["seen"]})
    steps.end(run_id, "failed", "it fell over", "ZeroDivisionError")
    clock.passed_s = 1e9
    assert not considering.project(7)["start"]


def test_a_mended_label_config_is_tried_again(
    steps: CycleSteps, considering: Considering, project: _Project, clock: _Clock
) -> None:
    """At once, without new judgements; if that fails too, not again."""
    _fail(steps, "cycle-7-a")
    assert not considering.project(7)["start"]
    project.label_config = "<View><Text name='prompt' value='$prompt'/></View>"
    look = considering.project(7)
    assert (look["start"], look["why"]) == (True, "what made the last cycle fail has changed")
    _fail(steps, "cycle-7-b")
    clock.passed_s = 1e9
    assert not considering.project(7)["start"]


def test_an_outage_is_tried_again_with_growing_pauses(
    steps: CycleSteps, considering: Considering, clock: _Clock
) -> None:
    """Five minutes after the first failure, ten after the second."""
    for failures, pause_s in ((1, 300.0), (2, 600.0)):
        _fail(steps, f"cycle-7-{failures}", cause="outside")
        clock.passed_s = pause_s - 1
        assert not considering.project(7)["start"]
        clock.passed_s = pause_s
        assert considering.project(7)["start"]


def test_a_paused_line_starts_nothing_and_refuses_what_is_asked(
    steps: CycleSteps, considering: Considering, registry: Registry
) -> None:
    """Only `--force` overrides it, and resuming ends it."""
    registry.current("project-7")
    registry.pause("project-7")
    assert "paused" in considering.project(7)["why"]
    run_id = steps.attempt(7, "cycle-7-a", "asked", {})
    refused = steps.begin(7, "cycle-7-a", run_id, "asked")["refused"]
    assert "rankloop resume project-7" in refused
    steps.end(run_id, "refused", refused)
    assert (
        Plan(**steps.begin(7, "cycle-7-b", steps.attempt(7, "cycle-7-b", "forced", {}), "forced")).line == "project-7"
    )
    registry.finish_run(str(registry.run_of("cycle-7-b")), "cancelled")
    registry.resume("project-7")
    assert considering.project(7)["why"].startswith("50 more judgements")


def test_a_project_that_is_not_connected_is_refused(steps: CycleSteps) -> None:
    """The cycle doesn't begin, and the reason says what to do."""
    run_id = steps.attempt(9, "cycle-9-a", "asked", {})
    assert "init-project --project 9" in steps.begin(9, "cycle-9-a", run_id, "asked")["refused"]


def test_a_project_whose_config_cannot_be_read_is_not_proposed_for(
    considering: Considering, project: _Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Proposals would fail at each reconciliation; the reason is said, and mending the config is enough."""
    project.unproposed = [7]
    assert considering.reconcile("project-7", [7])["unproposed"] == []
    assert "project 7 gets no proposals" in caplog.text
    project.label_config = LABEL_CONFIG
    considering.lines()  # as each reconciliation does first
    assert considering.reconcile("project-7", [7])["unproposed"] == [7]


def test_nothing_starts_for_a_project_that_was_just_disconnected(considering: Considering, project: _Project) -> None:
    """A list of connected projects that is some seconds old suffices to look at a line, and not to train."""
    project.label_config = LABEL_CONFIG
    assert considering.lines() == [["project-7", [7]]]
    assert considering.reconcile("project-7", [7])["start"] is True
    assert considering.lines() == [["project-7", [7]]]
    project._backends.clear()
    assert considering.reconcile("project-7", [7])["start"] is False


def test_a_project_sets_its_own_threshold(mlflow_settings: Settings, registry: Registry) -> None:
    """`train_after` in its `extra_params` counts instead of the backend's."""
    project = _Project(mlflow_settings.public_url(), train_after=60)
    connections = Connections(mlflow_settings, registry, project.open)
    considering = Considering(mlflow_settings, registry, connections, project.open)
    assert considering.project(7)["why"] == "10 more judgements (50 of 60 are there)"
    project.made = 60
    assert considering.project(7)["start"]
