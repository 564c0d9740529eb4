"""Training in a child process: monitored, with readable errors, and never left running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from ml_backend.errors import CancelledError
from ml_backend.loop import child
from ml_backend.loop.child import Progress, read_progress, train
from training.errors import ConfigError, RankloopError


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    """A few demonstrations."""
    path = tmp_path / "demonstrations.jsonl"
    rows = [{"prompt": f"What is tea number {n}?", "answer": "Leaves in hot water."} for n in range(64)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _config(folder: Path, epochs: int) -> Path:
    path = folder / f"config-{epochs}.json"
    path.write_text(json.dumps({"sft": {"epochs": epochs, "batch_size": 4, "checkpoint_every_steps": 8}}))
    return path


@pytest.mark.slow
def test_a_stage_runs_at_low_priority_and_tells_its_progress(
    tmp_path: Path, tiny_model_dir: Path, demonstrations: Path
) -> None:
    """The child has low priority, its progress is reported up to the last step, and its outcome is saved."""
    told: list[Progress] = []
    niceness: list[int] = []

    def on_progress(progress: Progress) -> None:
        told.append(progress)
        niceness.extend(process.nice() for process in psutil.Process().children() if process.is_running())

    options = {"model": tiny_model_dir, "data": demonstrations, "config": _config(tmp_path, 20), "device": "cpu"}
    train("sft", options, tmp_path / "sft", on_progress, poll_s=0.05)
    assert (told[-1].stage, told[-1].step) == ("sft", told[-1].total)
    assert [item.step for item in told] == sorted(item.step for item in told)
    assert child.NICENESS in niceness
    assert (tmp_path / "sft" / "policy" / "model.safetensors").is_file()
    before = (tmp_path / "sft" / "policy" / "model.safetensors").stat().st_mtime_ns
    train("sft", options, tmp_path / "sft")
    assert (tmp_path / "sft" / "policy" / "model.safetensors").stat().st_mtime_ns == before


def test_cancelled_training_ends_at_once(tmp_path: Path, tiny_model_dir: Path, demonstrations: Path) -> None:
    """Its process is gone when the error is raised, long before it would have been done."""
    options = {"model": tiny_model_dir, "data": demonstrations, "config": _config(tmp_path, 100_000), "device": "cpu"}
    before = set(psutil.Process().children(recursive=True))
    looks = iter([False, False, True])
    with pytest.raises(CancelledError):
        train("sft", options, tmp_path / "sft", is_cancelled=lambda: next(looks), poll_s=0.05)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_refusal_is_passed_on_in_its_own_words(tmp_path: Path, demonstrations: Path) -> None:
    """Training's own error about its input is reported without a traceback."""
    options = {"model": "/no/such/model", "data": demonstrations, "device": "cpu"}
    with pytest.raises(RankloopError, match="/no/such/model") as caught:
        train("sft", options, tmp_path / "sft")
    assert "Traceback" not in str(caught.value)
    assert not str(caught.value).startswith("Error")


def test_a_crash_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """Any other failure is reported with the exit code, the log's path, and its last lines."""
    with pytest.raises(RankloopError, match=r"exit code 2.*nonsense\.log") as caught:
        train("nonsense", {}, tmp_path / "nonsense")
    assert "No such command" in str(caught.value)


@pytest.mark.slow
def test_a_child_that_is_killed_is_named(tmp_path: Path, tiny_model_dir: Path, demonstrations: Path) -> None:
    """SIGKILL is reported with the hint that memory may have run out."""

    def kill(_progress: Progress) -> None:
        for process in psutil.Process().children():
            process.send_signal(signal.SIGKILL)

    options = {"model": tiny_model_dir, "data": demonstrations, "config": _config(tmp_path, 500), "device": "cpu"}
    with pytest.raises(RankloopError, match=r"SIGKILL.*out of memory"):
        train("sft", options, tmp_path / "sft", kill, poll_s=0.05)


@pytest.mark.slow
def test_a_child_never_outlives_its_worker(tmp_path: Path, tiny_model_dir: Path, demonstrations: Path) -> None:
    """A worker killed with SIGKILL takes its training with it, and the training then resumes."""
    config = _config(tmp_path, 60)
    options = {"model": str(tiny_model_dir), "data": str(demonstrations), "config": str(config), "device": "cpu"}
    program = (
        "from pathlib import Path; from ml_backend.loop.child import train;"
        f"train('sft', {options!r}, Path({str(tmp_path / 'sft')!r}))"
    )
    worker = subprocess.Popen([sys.executable, "-c", program])
    pause = threading.Event()
    while (progress := read_progress(tmp_path / "sft")) is None or progress.step < 16:
        assert worker.poll() is None
        pause.wait(0.05)
    children = psutil.Process(worker.pid).children(recursive=True)
    assert len(children) == 1
    worker.kill()
    worker.wait()
    psutil.wait_procs(children, timeout=10)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in children)
    interrupted_at = read_progress(tmp_path / "sft")
    assert interrupted_at is not None
    assert interrupted_at.step < interrupted_at.total
    steps: list[int] = []
    train("sft", options, tmp_path / "sft", lambda progress: steps.append(progress.step), poll_s=0.02)
    assert steps[-1] == interrupted_at.total
    assert steps[0] >= 8


def test_a_folder_in_use_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demonstrations: Path
) -> None:
    """A predecessor that is about to exit is waited for; one that stays is a clear error."""
    monkeypatch.setattr(child, "LOCK_WAIT_S", 0.2)
    out = tmp_path / "sft"
    out.mkdir()
    began = time.monotonic()
    with FileLock(out / ".lock"), pytest.raises(ConfigError, match="another process"):
        train("sft", {"model": "m", "data": demonstrations}, out)
    assert time.monotonic() - began >= 0.2


def test_progress_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """A missing, garbled or non-numeric progress file is ignored; a metric without a value is left out."""
    assert read_progress(tmp_path) is None
    for content in ("", "[]", '{"stage": "sft"}', '{"stage":"s","step":"x","total":1,"metrics":{}}'):
        (tmp_path / "progress.json").write_text(content)
        assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"stage":"ppo","step":3,"total":9,"metrics":{"kl":1,"x":null}}')
    assert read_progress(tmp_path) == Progress("ppo", 3, 9, {"kl": 1.0})
