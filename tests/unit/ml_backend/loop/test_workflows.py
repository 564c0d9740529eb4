"""The jobs on a real DBOS with SQLite; the parts that do the work are fakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from edge_fakes import FakeRegistry
from job_fakes import LABEL_CONFIG, FakeProjects, FakeProposals, FakeSteps

from ml_backend.errors import CancelledError, CrashError, JobsError, LabelStudioError
from ml_backend.labels import parse_label_config
from ml_backend.lines import Connected, ProjectSettings
from ml_backend.loop import names
from ml_backend.loop import opinions as opinions_module
from ml_backend.loop import worker as worker_module
from ml_backend.loop.client import Jobs
from ml_backend.loop.durable import is_cancelled
from ml_backend.loop.worker import Worker
from ml_backend.rounds import Rounds
from ml_backend.settings import Settings
from training.errors import ConfigError, RankloopError

CYCLE = [
    "attempt",
    "begin",
    "snapshot",
    "prepare",
    "sft",
    "reward",
    "reward gate",
    "ppo",
    "policy gate",
    "register",
    "promote",
    "finish",
]


@pytest.fixture
def job_settings(settings: Settings) -> Settings:
    """Short debouncing, a low threshold, and no API key, so that nothing queries Label Studio by itself."""
    changes = {"debounce_s": 0.3, "debounce_max_s": 5.0, "train_after": 10, "reconcile_cron": "0 0 1 1 *"}
    return settings.model_copy(update=changes)


@pytest.fixture
def steps() -> FakeSteps:
    """Steps that succeed at once."""
    return FakeSteps()


@pytest.fixture
def proposals() -> FakeProposals:
    """Proposals that complete at once."""
    return FakeProposals()


@pytest.fixture
def projects(job_settings: Settings) -> FakeProjects:
    """Two projects that are connected, on the default line each."""
    url = job_settings.public_url()
    return FakeProjects({7: url, 8: url}, extra_params={8: {"line": "eight"}})


@pytest.fixture
def asked(job_settings: Settings) -> Iterator[Jobs]:
    """The client."""
    jobs = Jobs(job_settings)
    yield jobs
    jobs.close()


@pytest.fixture
def start(
    job_settings: Settings,
    steps: FakeSteps,
    proposals: FakeProposals,
    registry: FakeRegistry,
    projects: FakeProjects,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Worker]]:
    """Starts a worker with the fakes, and stops it at the end."""
    monkeypatch.setattr(worker_module, "QUEUE_POLL_S", 0.05)
    monkeypatch.setattr(worker_module, "RECONSIDER_AFTER_S", 0.3)
    started: list[Worker] = []

    def make(others: FakeProjects | None = None, **changes: Any) -> Worker:
        settings = job_settings.model_copy(update=changes)
        worker = Worker(settings, registry, steps, proposals, (others or projects).open)  # type: ignore[arg-type]
        worker.start()
        started.append(worker)
        return worker

    yield make
    for worker in started:
        worker.stop()


def _until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait for something another thread does."""
    pause, until = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it didn't happen"
        pause.wait(0.02)


def test_a_burst_of_judgements_is_counted_once(
    start: Any, asked: Jobs, steps: FakeSteps, projects: FakeProjects
) -> None:
    """Twenty webhooks in a row cause one query to Label Studio, or two, once it is quiet."""
    start()
    for _ in range(20):
        asked.judgement_arrived(7)
    _until(lambda: projects.counted)
    asked.judgement_arrived(8)
    _until(lambda: 8 in projects.counted)
    assert projects.counted.count(7) <= 2
    assert "begin" not in steps.done


def test_judgements_that_keep_coming_are_counted_in_the_end(start: Any, asked: Jobs, projects: FakeProjects) -> None:
    """If it never gets quiet, the longest debounce limits the wait."""
    jobs = Jobs(asked._settings.model_copy(update={"debounce_s": 0.5, "debounce_max_s": 1.0}))
    start()
    began = time.monotonic()
    pause = threading.Event()
    while not projects.counted and time.monotonic() - began < 20:
        jobs.judgement_arrived(7)
        pause.wait(0.1)
    jobs.close()
    assert 0.9 < time.monotonic() - began < 10


def test_asking_takes_milliseconds(asked: Jobs) -> None:
    """Label Studio gives a webhook one second, and makes the annotator wait for it."""
    asked.judgement_arrived(7)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        asked.judgement_arrived(7)
        taken.append(time.perf_counter() - began)
    assert sorted(taken)[5] < 0.2


def test_enough_judgements_start_a_cycle_that_ends_in_new_proposals(
    start: Any, asked: Jobs, steps: FakeSteps, proposals: FakeProposals
) -> None:
    """A whole cycle: judgements counted, trained on, promoted, and new proposals in the connected projects of the line,
    and in no other.
    """
    url = asked._settings.public_url()
    lines = {10: {"line": "another"}}
    projects = FakeProjects({7: url, 8: url, 9: "http://elsewhere", 10: url}, [], [6, 4, 0], lines)
    start(projects)
    asked.judgement_arrived(7)
    _until(lambda: len(proposals.asked) == 2)
    cycle = asked.cycles()[0]
    assert (cycle.project_id, cycle.line, cycle.state) == (7, "default", "promoted")
    assert cycle.reason == "rankloop-v2 is champion. It wins."
    assert sorted(proposals.asked) == [7, 8]
    assert steps.done == CYCLE
    assert steps.given == [{"line": "default", "seen": dict.fromkeys(["7", "8"], "2026-01-01T00:00:00+00:00")}]
    _until(lambda: len(projects.counted) >= 4)


def test_nine_of_ten_judgements_are_not_enough(
    start: Any, asked: Jobs, steps: FakeSteps, projects: FakeProjects
) -> None:
    """Below the threshold nothing starts; the tenth starts it."""
    projects.new_judgements = [9, 10, 0]
    start()
    asked.judgement_arrived(7)
    _until(lambda: len(projects.counted) == 1)
    assert asked.cycles() == []
    asked.judgement_arrived(7)
    _until(lambda: "finish" in steps.done)


def test_a_project_has_one_cycle_at_a_time(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """A second request returns the first cycle; another project's cycle waits its turn."""
    hold = threading.Event()
    steps.on["reward"] = lambda: hold.wait(30)
    start()
    first = asked.start_training(7)
    _until(lambda: "reward" in steps.done)
    again = asked.start_training(7)
    other = asked.start_training(8)
    status = asked.status()
    hold.set()
    assert first["status"] == "queued"
    assert (again["job"], again["status"]) == (first["job"], "running")
    assert str(first["job"]) in again["message"]
    assert other["status"] == "queued"
    assert [(cycle["job"], cycle["step"]) for cycle in status["running"]] == [(first["job"], "reward")]
    assert [cycle["job"] for cycle in status["queued"]] == [other["job"]]
    assert asked.wait(other["job"], timeout_s=20).state == "promoted"
    assert steps.done.count("begin") == 2


def test_judgements_made_during_a_cycle_are_not_lost(
    start: Any, asked: Jobs, steps: FakeSteps, projects: FakeProjects
) -> None:
    """A webhook during a cycle starts no second one, but the count at the cycle's end does."""
    hold = threading.Event()
    steps.on["reward"] = lambda: hold.wait(30)
    projects.new_judgements = [12, 12, 0]
    start()
    first = asked.start_training(7, "default")
    _until(lambda: "reward" in steps.done)
    asked.judgement_arrived(7)
    _until(lambda: len(projects.counted) == 1)
    assert len(asked.cycles()) == 1
    hold.set()
    _until(lambda: steps.done.count("finish") == 2)
    newest = asked.cycles()[0]
    assert newest.job != first["job"]
    assert asked.wait(newest.job, timeout_s=20).state == "promoted"


@pytest.mark.parametrize(
    ("step", "outcome", "last"),
    [
        ("prepare", {"preferences": 3, "demonstrations": 0, "fault": "too few"}, "prepare"),
        ("reward gate", {"passed": False, "reason": "too few"}, "reward gate"),
        ("policy gate", {"passed": False, "reason": "too few"}, "policy gate"),
    ],
)
def test_a_gate_that_fails_ends_the_cycle(
    start: Any, asked: Jobs, steps: FakeSteps, step: str, outcome: dict[str, Any], last: str
) -> None:
    """What isn't good enough is rejected with its reason, and nothing is registered."""
    steps.on[step] = lambda: outcome
    start()
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=20)
    assert (cycle.state, cycle.reason) == ("rejected", "too few")
    assert steps.done == [*CYCLE[: CYCLE.index(last) + 1], "finish"]


def test_a_cycle_that_fails_says_why(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """A readable error ends the cycle with its message, and the next cycle can start."""

    def fail() -> None:
        raise RankloopError("training ran away", remedy="Lower the learning rate.")

    steps.on["ppo"] = fail
    start()
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=20)
    assert (cycle.state, cycle.reason) == ("failed", "training ran away. Lower the learning rate.")
    del steps.on["ppo"]
    assert asked.wait(asked.start_training(7)["job"], timeout_s=20).state == "promoted"


def test_an_unforeseen_error_is_recorded_as_well(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """Even a bug ends the cycle, with a message that says what happened."""
    steps.on["snapshot"] = lambda: 1 / 0
    start()
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=20)
    assert cycle.state == "failed"
    assert "division by zero" in cycle.reason
    assert "finish" in steps.done


def test_an_outside_system_that_comes_back_costs_nothing(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """A step is retried if Label Studio doesn't answer, but not if Label Studio refuses."""
    answers = [LabelStudioError("it doesn't answer"), LabelStudioError("it is starting", status=502)]

    def ask() -> dict[str, Any]:
        if answers:
            raise answers.pop(0)
        return {"tasks": 30, "snapshot_at": None}

    steps.on["snapshot"] = ask
    start()
    assert asked.wait(asked.start_training(7)["job"], timeout_s=30).state == "promoted"
    assert steps.done.count("snapshot") == 3
    answers.append(LabelStudioError("the key is wrong", status=401))
    assert asked.wait(asked.start_training(7)["job"], timeout_s=30).state == "failed"
    assert steps.done.count("snapshot") == 4


def test_training_that_is_killed_is_started_again(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """Killed training is restarted; training that keeps crashing ends the cycle."""
    crashes = [CrashError("ppo was killed by SIGKILL")] * 2

    def train() -> None:
        if crashes:
            raise crashes.pop()

    steps.on["ppo"] = train
    start()
    assert asked.wait(asked.start_training(7)["job"], timeout_s=30).state == "promoted"
    assert steps.done.count("ppo") == 3
    crashes += [CrashError("ppo was killed by SIGKILL")] * 9
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=60)
    assert (cycle.state, cycle.reason) == ("failed", "ppo was killed by SIGKILL.")
    assert steps.done.count("ppo") == 3 + 4


def test_proposals_asked_for_while_some_are_made_are_made_after(
    start: Any, asked: Jobs, proposals: FakeProposals
) -> None:
    """Tasks imported too late for the current run get another run; ten requests become one."""
    proposals.gate = threading.Event()
    start()
    asked.propose(7)
    assert proposals.begun.wait(20)
    for _ in range(10):
        asked.propose(7)
    assert [job["project_id"] for job in asked.status()["proposing"]] == [7]
    proposals.gate.set()
    _until(lambda: proposals.asked == [7, 7])
    _until(lambda: asked.status()["proposing"] == [])
    assert proposals.asked == [7, 7]


def test_what_is_asked_before_the_first_worker_starts_is_done(
    start: Any, asked: Jobs, proposals: FakeProposals
) -> None:
    """The server may start first: the client creates the tables, and the worker finds the work."""
    job = asked.start_training(7)
    asked.propose(7)
    assert job["status"] == "queued"
    start()
    assert asked.wait(job["job"], timeout_s=20).state == "promoted"
    _until(lambda: 7 in proposals.asked)


def test_reconciliation_finds_what_webhooks_missed(
    start: Any, asked: Jobs, steps: FakeSteps, proposals: FakeProposals
) -> None:
    """At its start and on schedule the worker counts in every project that is connected to this backend."""
    ours = asked._settings.public_url()
    projects = FakeProjects({7: ours + "/", 8: "http://elsewhere"}, unproposed=[7, 8], new_judgements=[10, 0])
    start(projects, label_studio_api_key="key", reconcile_cron="* * * * * *")
    _until(lambda: "finish" in steps.done and 7 in proposals.asked)
    _until(lambda: projects.asked["projects"] >= 3)
    assert {cycle.project_id for cycle in asked.cycles()} == {7}
    assert set(proposals.asked) == {7}


def test_a_champion_chosen_by_hand_gets_its_answers_at_once(start: Any, asked: Jobs, proposals: FakeProposals) -> None:
    """After a promotion or rollback, the champion's answers appear without waiting for the schedule."""
    projects = FakeProjects({7: asked._settings.public_url()}, unproposed=[])
    connected = Connected(7, "default", ProjectSettings(), LABEL_CONFIG)
    Rounds(asked._settings).fitted(connected, parse_label_config(LABEL_CONFIG))
    start(projects, label_studio_api_key="key")
    _until(lambda: projects.asked["projects"] == 1)
    projects.unproposed.append(7)
    asked.champion_changed()
    _until(lambda: proposals.asked == [7])


def test_a_small_job_that_fails_says_so_and_keeps_nobody_waiting(
    start: Any, asked: Jobs, projects: FakeProjects, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while counting is logged in one sentence, and the next judgement is counted."""
    projects.fault = LabelStudioError("the key is wrong", status=401)
    start()
    asked.judgement_arrived(7)
    _until(lambda: "consider_training(7,): the key is wrong." in caplog.text)
    projects.fault = None
    asked.judgement_arrived(7)
    _until(lambda: projects.counted)


def test_small_jobs_are_forgotten_after_a_while_and_cycles_never(
    start: Any, asked: Jobs, projects: FakeProjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables don't grow with every webhook; what trained a version stays on record."""
    monkeypatch.setattr(worker_module, "KEEP_ENDED_S", 0.0)
    projects.new_judgements = [10, 0]
    start(reconcile_cron="* * * * * *")
    asked.judgement_arrived(7)

    def considered() -> int:
        with asked._asking() as client:
            return len(client.list_workflows(name="consider_training", status="SUCCESS"))

    _until(lambda: len(projects.counted) == 2 and considered() == 0)
    assert [cycle.state for cycle in asked.cycles()] == ["promoted"]


def test_one_worker_per_data_folder(start: Any) -> None:
    """A second worker is refused, since it would take over the first one's unfinished work."""
    start()
    with pytest.raises(ConfigError, match="another worker"):
        start()


def test_a_schedule_that_cannot_be_read_is_named(start: Any) -> None:
    """The error names the setting and its value."""
    with pytest.raises(ConfigError, match=r"RANKLOOP_RECONCILE_CRON.*every day"):
        start(reconcile_cron="every day")


def test_waiting_for_an_unknown_cycle_is_an_error(asked: Jobs) -> None:
    """Waiting for an unknown id is an error."""
    with pytest.raises(JobsError, match="no-such-cycle"):
        asked.wait("no-such-cycle")


def test_a_database_that_cannot_be_reached_is_said(job_settings: Settings) -> None:
    """The server's answer names the setting to check, without a traceback."""
    url = "postgresql://rankloop:secret@127.0.0.1:9/jobs"
    with pytest.raises(JobsError, match="RANKLOOP_DATABASE_URL") as caught:
        Jobs(job_settings.model_copy(update={"database_url": url})).judgement_arrived(7)
    assert "secret" not in str(caught.value)


def test_an_event_of_a_project_that_is_not_connected_starts_nothing(
    start: Any, asked: Jobs, steps: FakeSteps, projects: FakeProjects
) -> None:
    """A webhook that was left behind: nothing is counted, nothing trained, and the status says why."""
    start()
    asked.judgement_arrived(9)
    _until(lambda: asked.status()["waiting"])
    (look,) = asked.status()["waiting"]
    assert look["line"] is None
    assert look["why"].startswith("Project 9 isn't connected to this backend, so nothing starts")
    assert (projects.counted, asked.cycles(), steps.done) == ([], [], [])


def test_a_cycle_that_is_refused_is_recorded_with_its_reason(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """What turns out to be in the way when the cycle begins ends it, as refused; nothing is considered afterwards."""
    steps.on["begin"] = lambda: {"refused": "Project 9 isn't connected."}
    start()
    cycle = asked.wait(asked.start_training(9)["job"], timeout_s=20)
    assert (cycle.state, cycle.reason) == ("refused", "Project 9 isn't connected.")
    assert steps.done == ["attempt", "begin", "finish"]


def test_what_fails_at_the_very_beginning_is_recorded_first(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """The attempt stands before anything can fail, and is closed as failed."""

    def fail() -> None:
        raise RankloopError("the base model is gone")

    steps.on["begin"] = fail
    start()
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=20)
    assert (cycle.state, cycle.reason) == ("failed", "the base model is gone.")
    assert steps.done == ["attempt", "begin", "finish"]


def test_a_version_that_may_not_replace_the_champion_is_only_registered(
    start: Any, asked: Jobs, steps: FakeSteps, proposals: FakeProposals
) -> None:
    """Somebody rolled back while the cycle ran: that holds, the outcome says so, and nobody's proposals change."""
    why = "rankloop-v2 is registered, but not champion: the champion is rankloop-v1 now."
    steps.on["promote"] = lambda: {"status": "registered", "reason": why}
    start()
    cycle = asked.wait(asked.start_training(7)["job"], timeout_s=20)
    assert cycle.state == "registered"
    assert cycle.reason == why
    assert proposals.asked == []


def test_a_cancelled_cycle_ends_and_the_next_one_can_start(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """Cancelling a running cycle frees its line at once; a cycle that has ended can't be cancelled."""
    hold = threading.Event()
    steps.on["reward"] = lambda: hold.wait(30)
    start()
    job = asked.start_training(7, "default")["job"]
    _until(lambda: "reward" in steps.done)
    cycle, given = asked.cancel(job)
    assert (cycle.state, given) == ("running", {"line": "default"})
    assert asked.cycles()[0].state == "cancelled"
    hold.set()
    steps.on.clear()
    assert asked.wait(asked.start_training(7, "default")["job"], timeout_s=20).state == "promoted"
    with pytest.raises(JobsError, match=r"has ended.*promoted"):
        asked.cancel(asked.cycles()[0].job)
    with pytest.raises(JobsError, match="no such training cycle"):
        asked.cancel("cycle-7-unknown")


def test_a_running_step_is_told_that_its_cycle_is_cancelled(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """That is how training ends at once; nothing after it runs, not even the recording of a failure."""
    told = threading.Event()

    def train() -> None:
        _until(lambda: is_cancelled(job))
        told.set()
        raise CancelledError("the cycle was cancelled")

    steps.on["ppo"] = train
    start()
    job = asked.start_training(7)["job"]
    _until(lambda: "ppo" in steps.done)
    assert not told.is_set()
    asked.cancel(job)
    assert told.wait(20)
    assert asked.wait(job, timeout_s=20).state == "cancelled"
    assert "finish" not in steps.done
    assert asked.start_training(8)["job"] != job


def test_unfinished_work_of_an_older_release_is_ended(
    start: Any, asked: Jobs, steps: FakeSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle that began with other steps can't go on: it is ended and recorded, instead of waiting for ever."""
    with monkeypatch.context() as older:
        older.setattr(names, "APPLICATION_VERSION", "1")
        job = asked.start_training(7)["job"]
    start()
    _until(lambda: steps.done == ["finish"])
    assert asked.wait(job, timeout_s=20).state == "cancelled"


def test_judgements_are_heard_soon_after_they_were_counted(
    start: Any, asked: Jobs, projects: FakeProjects, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a burst; those that come during a look are heard after the pause, and a failed look is one sentence."""
    monkeypatch.setattr(opinions_module, "SHORTEST_PAUSE_S", 1.0)
    projects.new_judgements = [3]
    start()
    for _ in range(5):
        asked.judgement_arrived(7)
    _until(lambda: registry.opinions("default"))
    assert projects.exported.count(7) == 1
    asked.judgement_arrived(7)
    asked.judgement_arrived(8)
    _until(lambda: projects.exported.count(7) == 2 and registry.opinions("eight"))


def test_a_look_that_fails_is_said_in_one_sentence(
    start: Any, asked: Jobs, projects: FakeProjects, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps nothing from going on: the judgements are counted as ever."""
    projects.new_judgements = [3]
    monkeypatch.setattr(FakeProjects, "export_tasks", _refused)
    start()
    asked.judgement_arrived(7)
    _until(lambda: "hear_people('default', {'7': '2026-01-01T00:00:00+00:00'}): no export for you." in caplog.text)
    assert projects.counted == [7]


def _refused(_self: FakeProjects, _project_id: int) -> Any:
    raise LabelStudioError("no export for you", status=403)


def test_a_line_has_one_cycle_whichever_of_its_projects_asks(start: Any, asked: Jobs, steps: FakeSteps) -> None:
    """A second project of the line is told of the first one's cycle."""
    hold = threading.Event()
    steps.on["reward"] = lambda: hold.wait(30)
    start()
    first = asked.start_training(7, "shared")
    other = asked.start_training(8, "shared")
    hold.set()
    assert other["job"] == first["job"]
    assert "of line shared is already" in other["message"]
