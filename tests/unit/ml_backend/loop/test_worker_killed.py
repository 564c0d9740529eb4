"""A worker killed in the middle of PPO, with real training, a real DBOS and a real MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_project import tiny_training

from ml_backend.loop.child import read_progress
from ml_backend.loop.client import Jobs
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings, load_settings

pytestmark = pytest.mark.slow


@pytest.fixture
def given(mlflow_settings: Settings, tmp_path: Path) -> dict[str, Any]:
    """Settings for a process of its own."""
    return {
        "data_dir": str(mlflow_settings.home()),
        "model": mlflow_settings.model,
        "device": "cpu",
        "max_new_tokens": 12,
        "training_config": str(tiny_training(tmp_path, iterations=40)),
        "reconcile_cron": "0 0 1 1 *",
    }


class _Workers:
    """Starts and kills workers."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start another worker."""
        program = [sys.executable, str(Path(__file__).parents[3] / "crash_worker.py"), json.dumps(self._given)]
        self._running = subprocess.Popen(program)

    def alive(self) -> bool:
        """Whether the last worker is still running."""
        return self._running is not None and self._running.poll() is None

    def kill(self) -> None:
        """Send SIGKILL, which allows no cleanup."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()


@pytest.fixture
def workers(given: dict[str, Any]) -> Iterator[_Workers]:
    """Leave no worker behind."""
    workers = _Workers(given)
    yield workers
    workers.kill()


def test_a_killed_worker_finishes_the_same_cycle_once(given: dict[str, Any], workers: _Workers) -> None:
    """Finished steps aren't repeated, PPO resumes from its checkpoint, and one version is registered."""
    settings = load_settings(**given)
    jobs, registry = Jobs(settings), Registry(settings)
    job = jobs.start_training(7)["job"]
    folder = settings.home() / "cycles" / job
    workers.start()
    pause = threading.Event()
    while (progress := read_progress(folder / "ppo")) is None or progress.step < 3:
        assert workers.alive()
        assert not jobs.wait(job, timeout_s=0).ended
        pause.wait(0.05)
    workers.kill()
    snapshot = (folder / "tasks.json").stat().st_mtime_ns, (folder / "reward" / "report.json").stat().st_mtime_ns
    killed_at = read_progress(folder / "ppo")
    assert killed_at is not None
    assert killed_at.step < killed_at.total
    cycle = jobs.wait(job, timeout_s=0)
    assert (cycle.state, cycle.step) == ("running", "ppo")

    workers.start()
    cycle = jobs.wait(job, timeout_s=200)
    assert cycle.state == "promoted", cycle
    assert (
        (folder / "tasks.json").stat().st_mtime_ns,
        (folder / "reward" / "report.json").stat().st_mtime_ns,
    ) == snapshot
    assert [version.name for version in registry.versions()] == ["rankloop-v1", "rankloop-v2"]
    champion = registry.champion()
    assert champion is not None
    assert (champion.name, champion.metrics["judgements"]) == ("rankloop-v2", 45)
    assert [(attempt.workflow_id, attempt.status) for attempt in registry.attempts()] == [(job, "promoted")]
    assert len(jobs.cycles()) == 1
    jobs.close()
