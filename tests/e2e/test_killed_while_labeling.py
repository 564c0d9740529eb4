"""The worker dies in the middle of PPO, while people keep labeling in a real Label Studio."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from judged_project import tiny_training

from ml_backend.demo.annotator import SimulatedAnnotator, annotate_round
from ml_backend.demo.stack import environment_of
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.setup import init_project
from ml_backend.loop.child import read_progress
from ml_backend.loop.client import Jobs
from ml_backend.processes.children import Children, rankloop_command
from ml_backend.processes.ports import free_port
from ml_backend.registry.registry import Registry
from ml_backend.settings import load_settings
from training.data.prompt_sources import PromptSource

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

JUDGEMENTS = 40
PROMPTS = 60


@pytest.fixture
def chosen(label_studio_server: LabelStudioServer, tiny_model_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings for server and worker: a tiny model, and a cycle after forty judgements."""
    port = free_port()
    return {
        "data_dir": tmp_path / "home",
        "model": str(tiny_model_dir),
        "device": "cpu",
        "max_new_tokens": 12,
        "label_studio_url": label_studio_server.url,
        "label_studio_api_key": label_studio_server.token,
        "port": port,
        "webhook_secret": "e2e-secret",
        "champion_poll_s": 0.5,
        "debounce_s": 1.0,
        "train_after": JUDGEMENTS,
        "reconcile_cron": "0 0 1 1 *",
        "training_config": tiny_training(tmp_path, iterations=60),
    }


@pytest.fixture
def children(chosen: dict[str, Any], tmp_path: Path) -> Iterator[Children]:
    """A running server and worker, stopped afterwards."""
    with Children(environment_of(chosen), logs=tmp_path) as running:
        running.start("serve", rankloop_command("serve"))
        yield running


@pytest.fixture
def label_studio(label_studio_server: LabelStudioServer) -> Iterator[LabelStudio]:
    """A connection to it."""
    with LabelStudio(label_studio_server.url, label_studio_server.token) as connection:
        yield connection


def _until(condition: Callable[[], Any], what: str, timeout_s: float = 300.0) -> None:
    pause, until = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"still not: {what}"
        pause.wait(0.2)


def _shorter(_prompt: str, answer1: str, answer2: str) -> str:
    if len(answer1) == len(answer2):
        return "tie"
    return "1" if len(answer1) < len(answer2) else "2"


def test_a_worker_killed_in_ppo_loses_nothing(
    chosen: dict[str, Any], children: Children, label_studio: LabelStudio, tmp_path: Path
) -> None:
    """The next worker finishes the same cycle once, from all judgements made before it began; those made while no
    worker was running count towards the next one.
    """
    settings = load_settings(**chosen)
    jobs, registry = Jobs(settings), Registry(settings)
    first_worker = children.start("worker", rankloop_command("worker"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"What is tea number {number}?\n" for number in range(PROMPTS)))
    _until(lambda: registry.champion() is not None, "the base is registered")
    project = init_project(
        label_studio,
        BackendAddress.from_settings(settings),
        title="killed worker",
        prompts=PromptSource(str(prompts)),
        extra_params={"line": "default"},
    ).project
    _until(lambda: not label_studio.tasks_to_propose(project.id, "rankloop-v1"), "all tasks have answers")

    annotator = SimulatedAnnotator(_shorter)  # type: ignore[arg-type]
    made = annotate_round(label_studio, project, "rankloop-v1", annotator, JUDGEMENTS, lambda *_: None)
    _until(jobs.cycles, "the webhooks started a cycle")
    job = jobs.cycles()[0].job
    ppo = settings.home() / "cycles" / job / "ppo"
    _until(lambda: (progress := read_progress(ppo)) is not None and progress.step >= 3, "PPO has begun")
    os.kill(first_worker, signal.SIGKILL)
    assert children.wait(30) == ("worker", -signal.SIGKILL)
    interrupted = read_progress(ppo)
    assert interrupted is not None
    assert interrupted.step < interrupted.total
    later = annotate_round(label_studio, project, "rankloop-v1", annotator, 3, lambda *_: None)

    children.start("worker again", rankloop_command("worker"))
    cycle = jobs.wait(job, timeout_s=400)
    assert cycle.state == "promoted", cycle
    _until(lambda: not label_studio.tasks_to_propose(project.id, "rankloop-v2"), "all tasks have better answers")

    assert [item.job for item in jobs.cycles()] == [job]
    assert [(item.workflow_id, item.status) for item in registry.attempts()] == [(job, "promoted")]
    assert [version.name for version in registry.versions()] == ["rankloop-v1", "rankloop-v2"]
    version = registry.get("rankloop-v2")
    assert version.metrics["judgements"] == made.judgements == JUDGEMENTS
    assert version.metrics["annotations"] == made.judgements + made.skips
    attempt = next(iter(registry.attempts("default")), None)
    assert attempt is not None
    assert label_studio.count_judgements_since(project.id, attempt.snapshot_at) == later.judgements == 3
    by_version = label_studio.predictions_by_version(project.id)
    assert by_version["rankloop-v2"] == PROMPTS - made.judgements - made.skips - later.judgements - later.skips
    jobs.close()
