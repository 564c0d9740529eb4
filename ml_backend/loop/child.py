"""Training in a child process, `python -m training ...`, which never slows the worker down and ends with it.

A run that is restarted in the same folder resumes from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ml_backend.errors import CancelledError, CrashError
from ml_backend.processes import tethered, training_threads
from training.errors import ConfigError, RankloopError

NICENESS = 10
POLL_S = 1.0
SECONDS_BETWEEN_METRICS = 5.0
LOCK_WAIT_S = 60.0
"""How long to wait for an earlier process to release the folder: if its worker was killed, it is just ending."""
TAIL_LINES = 15
_REFUSED = 2  # the exit code of `python -m training` for an error with a readable message

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage's progress, from its `progress.json`."""

    stage: str
    step: int
    total: int
    metrics: Mapping[str, float]


class MetricsLog:
    """Passes a stage's progress on as points of curves (name, value, step), every few seconds.

    Args:
        log: takes the points.
    """

    def __init__(self, log: Callable[[list[tuple[str, float, int]]], None]) -> None:
        self._log = log
        self._logged_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Log it, unless something was logged just now and it isn't the end."""
        now = time.monotonic()
        if now - self._logged_at < SECONDS_BETWEEN_METRICS and progress.step < progress.total:
            return
        self._logged_at = now
        self._log([(f"{progress.stage}/{name}", value, progress.step) for name, value in progress.metrics.items()])


def train(
    stage: str,
    options: Mapping[str, str | Path],
    out: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
    poll_s: float = POLL_S,
) -> None:
    """Run one training stage to completion, in a low-priority child process.

    Args:
        stage: the stage to run: `sft`, `reward`, `ppo`, ...
        options: the command's options by name, without dashes.
        out: the stage's folder; its output goes to a `.log` file beside it.
        on_progress: called after each step.
        is_cancelled: whether to end the process now; asked at each look.
        poll_s: how often to check the process and its progress.

    Raises:
        RankloopError: training rejected its input; has its message.
        CrashError: training crashed or was killed; includes the end of its log.
        CancelledError: it was cancelled, and its process is gone.
        ConfigError: another process keeps writing to `out`.
    """
    _await_free(out)
    log = out.parent / f"{stage}.log"
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "training", stage, *arguments, "--out", str(out), "--quiet"]
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(  # noqa: S603  # our own module, with options of our own making
            tethered(command, signal.SIGKILL, NICENESS),
            env={**training_threads(), **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    logger.info("%s runs in process %d; its output goes to %s", stage, process.pid, log)
    code = _follow(process, out, on_progress, is_cancelled, poll_s)
    if code != 0:
        raise _failure(stage, code, log, start)


def read_progress(folder: Path) -> Progress | None:
    """Read a stage's progress from its folder; None if there is none yet."""
    try:
        found = json.loads((folder / "progress.json").read_bytes())
        metrics = {name: float(value) for name, value in found["metrics"].items() if value is not None}
        return Progress(str(found["stage"]), int(found["step"]), int(found["total"]), metrics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _await_free(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=LOCK_WAIT_S):
            return
    except Timeout as error:
        raise ConfigError(
            "another process is training in this folder", got=str(out), remedy="Wait for it to finish, or stop it."
        ) from error


def _follow(
    process: subprocess.Popen[bytes],
    out: Path,
    on_progress: Callable[[Progress], None] | None,
    is_cancelled: Callable[[], bool],
    poll_s: float,
) -> int:
    told = None
    try:
        while True:
            try:
                code = process.wait(poll_s)
            except subprocess.TimeoutExpired:
                code = None
            progress = read_progress(out)
            if on_progress and progress and progress != told:
                told = progress
                on_progress(progress)
            if code is not None:
                return code
            if is_cancelled():
                raise CancelledError("the cycle was cancelled")
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failure(stage: str, code: int, log: Path, start: int) -> RankloopError:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    refusals = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    if code == _REFUSED and refusals:
        return RankloopError(refusals[-1])
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    hint = " The system may have run out of memory." if code == -signal.SIGKILL else ""
    tail = "\n".join(lines[-TAIL_LINES:])
    return CrashError(f"{stage} {how}", remedy=f"Its output is in {log}.{hint} It ends:\n{tail}")
