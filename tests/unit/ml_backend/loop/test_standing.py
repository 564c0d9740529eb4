"""The reported state of background proposals and new judgements, on a real DBOS with SQLite."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from edge_fakes import FakeRegistry
from job_fakes import FakeProjects, FakeSteps

from ml_backend.loop import worker as worker_module
from ml_backend.loop.client import Jobs
from ml_backend.loop.cycle import Plan
from ml_backend.loop.worker import Worker
from ml_backend.processes.logs import configure_logging
from ml_backend.settings import Settings


class StepwiseProposals:
    """Stores 500 of 1,200 proposals at a time; each time but the first waits for the gate."""

    def __init__(self) -> None:
        self.left = 1200
        self.gate = threading.Event()

    def some(self, _project_id: int) -> dict[str, Any]:
        """The next 500."""
        if self.left < 1200:
            assert self.gate.wait(30)
        stored = min(500, self.left)
        self.left -= stored
        return {"version": "rankloop-v2", "stored": stored, "left": self.left}

    def release(self) -> None:
        """Nothing to release."""


class TalkativeSteps(FakeSteps):
    """Logs a line within a step."""

    def snapshot(self, plan: Plan) -> dict[str, Any]:
        """As usual, but logging a line."""
        logging.getLogger("rankloop.test").info("inside")
        return super().snapshot(plan)


@pytest.fixture
def job_settings(settings: Settings) -> Settings:
    """Short debouncing, and no API key, so that nothing queries Label Studio by itself."""
    changes = {"debounce_s": 0.2, "debounce_max_s": 5.0, "train_after": 50, "reconcile_cron": "0 0 1 1 *"}
    return settings.model_copy(update=changes)


@pytest.fixture
def asked(job_settings: Settings) -> Iterator[Jobs]:
    """The client."""
    jobs = Jobs(job_settings)
    yield jobs
    jobs.close()


def _until(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    pause, until = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it didn't happen"
        pause.wait(0.05)


def test_lines_of_a_job_carry_its_ids(
    job_settings: Settings, asked: Jobs, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a training cycle's step logs names the step and the cycle, by the id that was returned when it was
    requested.
    """
    monkeypatch.setattr(worker_module, "QUEUE_POLL_S", 0.05)
    root, log = logging.getLogger(), io.StringIO()
    before = root.level, root.handlers[:]
    configure_logging("json", stream=log)
    steps = TalkativeSteps()
    projects = FakeProjects({7: job_settings.public_url()})
    worker = Worker(job_settings, registry, steps, StepwiseProposals(), projects.open)  # type: ignore[arg-type]
    worker.start()
    try:
        job = asked.start_training(7)["job"]
        _until(lambda: "finish" in steps.done)
    finally:
        worker.stop()
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    (line,) = [found for found in map(json.loads, log.getvalue().splitlines()) if found["event"] == "inside"]
    assert (line["workflow_id"], line["step"]) == (job, "snapshot")


def test_progress_of_proposals_and_new_judgements(
    job_settings: Settings, asked: Jobs, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued, then running with 500 of 1,200 stored, then done and counted by version; judgements as last counted, by a
    webhook or by the reconciliation.
    """
    monkeypatch.setattr(worker_module, "QUEUE_POLL_S", 0.05)
    asked.propose(7)
    assert asked.status()["proposing"] == [{"project_id": 7, "state": "queued", "stored": 0, "left": None}]
    proposals = StepwiseProposals()
    url = job_settings.public_url()
    projects = FakeProjects({8: url, 9: url}, [], [41], {9: {"line": "nine"}})
    settings = job_settings.model_copy(update={"label_studio_api_key": "key"})
    worker = Worker(settings, registry, FakeSteps(), proposals, projects.open)  # type: ignore[arg-type]
    worker.start()
    try:
        _until(lambda: asked.status()["proposing"] and asked.status()["proposing"][0]["stored"])
        assert asked.status()["proposing"] == [{"project_id": 7, "state": "running", "stored": 500, "left": 700}]
        asked.judgement_arrived(9)
        _until(lambda: asked.status()["new_judgements"] == {8: 41, 9: 41})
        proposals.gate.set()
        _until(lambda: not asked.status()["proposing"])
        assert asked.status()["stored_by_version"] == {"rankloop-v2": 1200}
    finally:
        proposals.gate.set()
        worker.stop()
