"""Faults of our own processes: the worker, the training that it starts, the server, and the files they write."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from faults.annotators import Judged
from faults.dying_worker import READY, STEPS
from faults.killable import Killable
from faults.outside_faults import wait_for_step
from faults.stack import JUDGED_NOW, Stack
from ml_backend.loop.child import read_progress
from ml_backend.loop.client import CycleJob

LONG_PPO = 30
"""Iterations of PPO, enough to be killed in the middle."""
SMALL_FILE_BYTES = 4096


def killed_at_every_step(stack: Stack) -> None:
    """The worker dies at the start of each step, and again when its work is done but not recorded."""
    kills = [(moment, step) for step in STEPS for moment in ("before", "after")]
    stack.plan_kills(kills)
    project = stack.open_project("killed at every step")
    stack.annotators.judge(project, JUDGED_NOW)
    stack.until(lambda: not stack.left_kills(), "the worker was killed at every step", timeout_s=1200)
    stack.close(project, {f"worker killed in {step}": 2 for step in STEPS})


def training_killed(stack: Stack) -> None:
    """Only the training process dies, as when memory runs out; its worker survives."""
    project, cycle = _long_cycle(stack, "training killed")
    for stage, step in (("reward", 0), ("ppo", 2), ("ppo", 12)):
        _ppo_at(stack, cycle, step) if stage == "ppo" else None
        child = _training(stack, stage)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    stack.close(project, {"training process killed": 3})


def killed_mid_training(stack: Stack) -> None:
    """The worker dies in the middle of PPO, twice with the newest checkpoint truncated before it restarts."""
    project, cycle = _long_cycle(stack, "killed in the middle of PPO")
    for step, truncate in ((4, False), (10, True), (20, True)):
        _ppo_at(stack, cycle, step)
        stack.worker.kill()
        if truncate:
            newest = max((stack.folder(cycle) / "ppo" / "checkpoints").glob("step-*.pt"))
            os.truncate(newest, newest.stat().st_size // 2)
        stack.worker.start()
    stack.close(project, {"worker killed in the middle of PPO": 3, "checkpoint truncated": 2})


def workers_killed_in_turn(stack: Stack) -> None:
    """Two workers with data folders of their own share a job queue. Each takes over when the other is killed."""
    first = stack.worker
    second = stack.new_worker("second-worker", data_dir=stack.home.with_name("second-data"))
    stack.train_for(LONG_PPO)
    project = stack.open_project("workers killed in turn")
    second.start()
    refused = stack.until(lambda: second.ended(0.1), "the second worker doesn't start beside the first")
    assert refused != -signal.SIGKILL
    assert "another worker is using this job queue" in second.log.read_text(encoding="utf-8")

    stack.annotators.judge(project, JUDGED_NOW)
    job = stack.cycle(project).job
    for working, waiting, step in ((first, second, "reward"), (second, first, "ppo"), (first, second, "ppo")):
        wait_for_step(stack, job, step)
        assert not stack.jobs.wait(job, timeout_s=0).ended, f"the cycle was over before {working.name} was killed"
        working.kill()
        before = _lives(waiting)
        stack.worker = waiting
        waiting.start()
        stack.until(lambda w=waiting, n=before: _lives(w) > n, f"{waiting.name} has taken over")
    stack.train_for(2)
    stack.close(project, {"one of two workers killed": 3})
    second.kill()
    stack.worker = first
    first.start()


def disk_full(stack: Stack) -> None:
    """There is no space for a checkpoint: on a disk that is really full if we may mount one, else by a limit."""
    with _small_disk(stack.home / "cycles") as disk:
        project, cycle = _long_cycle(stack, "disk full")
        for step in (2, 12):
            _ppo_at(stack, cycle, step)
            child = _training(stack, "ppo")
            if disk:
                ballast = stack.home / "cycles" / "ballast"
                _fill(ballast)
            else:
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES, SMALL_FILE_BYTES))
            stack.until(lambda child=child: not _alive(child), "training found the disk full")
            if disk:
                ballast.unlink()
        stack.close(project, {"disk full while a checkpoint is written": 2})


def server_killed_in_swap(stack: Stack) -> None:
    """The server dies while it loads a new champion: right after a cycle, and after promotions by hand."""
    project = stack.open_project("server killed in a swap")
    stack.annotators.judge(project, JUDGED_NOW)
    cycle = stack.cycle(project)
    stack.until(lambda: _swapping(stack), "a swap after the cycle")
    stack.server.kill()
    stack.server.start()
    stack.jobs.wait(cycle.job, timeout_s=60)
    stack.await_server()
    new, old = [version.name for version in stack.registry.versions(stack.line)[:-3:-1]]
    for name in (old, new):
        stack.registry.promote(name)
        stack.until(lambda: _swapping(stack), "a swap by hand")
        stack.server.kill()
        stack.server.start()
        stack.await_server()
    stack.close(project, {"server killed during a swap": 3})


def registry_damaged(stack: Stack) -> None:
    """Files of versions are damaged: the local copies, those in the registry, and those not promoted yet."""
    project = stack.open_project("registry damaged")
    stack.await_server()
    champion = stack.registry.current(stack.line)
    weights = Path("policy") / "model.safetensors"
    local = stack.home / "versions" / champion.files / weights
    os.truncate(local, 1000)  # the registry's copy is intact
    stack.server.kill()
    stack.server.start()
    stack.plan_kills([("after", "register")])
    stack.annotators.judge(project, JUDGED_NOW - 1)
    stack.await_server()
    stored = _stored(stack, champion.run_id) / weights
    kept = stored.read_bytes()
    stored.write_bytes(b"x" + kept[1:])  # and now only the local copy is intact
    stack.annotators.judge(project, 1)
    cycle = stack.cycle(project)
    while not stack.worker.died(0.2):
        assert not stack.jobs.wait(cycle.job, timeout_s=0).ended
    fresh = max(stack.registry.versions(stack.line), key=lambda version: version.number)
    os.truncate(_stored(stack, fresh.run_id) / weights, 1000)
    stack.worker.start()
    tried = {"local copy of a version truncated": 1, "registry's artifact corrupted": 2}
    stack.close(project, tried)
    stored.write_bytes(kept)


def _long_cycle(stack: Stack, title: str) -> tuple[Judged, CycleJob]:
    stack.train_for(LONG_PPO)
    project = stack.open_project(title)
    stack.annotators.judge(project, JUDGED_NOW)
    cycle = stack.cycle(project)
    stack.until(lambda: (stack.folder(cycle) / "config.json").is_file(), "the snapshot is taken")
    stack.train_for(2)
    return project, cycle


def _ppo_at(stack: Stack, cycle: CycleJob, step: int) -> None:
    folder = stack.folder(cycle) / "ppo"

    def reached() -> bool:
        progress = read_progress(folder)
        if progress is not None and progress.step >= progress.total:
            raise RuntimeError("PPO was over before the fault")
        return progress is not None and progress.step >= step

    stack.until(reached, f"PPO's iteration {step}")


def _training(stack: Stack, stage: str) -> psutil.Process:
    """The training process of a stage, once it is training."""

    def found() -> psutil.Process | None:
        for process in psutil.Process(stack.worker.pid).children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if "training" in command and stage in command:
                return process
        return None

    return stack.until(found, f"{stage} trains")


def _lives(worker: Killable) -> int:
    """How often a worker got ready."""
    return worker.log.read_text(encoding="utf-8").count(READY) if worker.log.is_file() else 0


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _swapping(stack: Stack) -> bool:
    status = stack.status()
    return bool(status) and status["loaded"] != status["champion"]


def _stored(stack: Stack, run_id: str) -> Path:
    """The registry's folder of a version's files."""
    return next((stack.home / "mlartifacts").rglob(f"{run_id}/artifacts/version"))


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 64 MB if permitted. Yields whether it was."""
    folder.mkdir(exist_ok=True)
    may = os.getuid() == 0 and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = may and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return
