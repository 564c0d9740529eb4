"""Runs server and worker as child processes: if one exits, the other is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ml_backend.processes.tether import tethered
from ml_backend.processes.threads import SHARED_CORES

GRACE_S = 20.0
"""How long a child may take to exit before it is killed. A worker and its training exit at once."""

logger = logging.getLogger(__name__)


class Children:
    """Child processes that are stopped, by their ids, when the context exits.

    Each child leads its own process group: Ctrl-C reaches only the parent, which then stops them in order, and any
    processes that a child leaves behind can be killed with it.

    Args:
        environment: variables added to the parent's. Unless these say otherwise, the children share the machine's
            cores (see `SHARED_CORES`).
        logs: a folder for their output, one file each; None sends it to the parent's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, logs: Path | None = None) -> None:
        self._environment = {**SHARED_CORES, **os.environ, **(environment or {})}
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> int:
        """Start a child and return its process id. It never outlives this process (see `tethered`)."""
        with contextlib.ExitStack() as files:
            log = files.enter_context((self._logs / f"{name}.log").open("ab")) if self._logs else None
            process = subprocess.Popen(  # noqa: S603  # our own commands
                tethered(command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )
        self._processes[name] = process
        threading.Thread(target=self._watch, args=(name, process), daemon=True, name=f"watch-{name}").start()
        return process.pid

    def wait(self, timeout_s: float | None = None) -> tuple[str, int] | None:
        """Wait until a child exits by itself, or `interrupt` is called.

        Returns:
            The child's name and exit code; None if interrupted or out of time.
        """
        try:
            return self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        """Make `wait` return. Safe to call from a signal handler."""
        self._ended.put(None)

    def stop(self, grace_s: float | None = None) -> None:
        """Stop all children, the last started first, and wait until they are gone.

        Args:
            grace_s: how long each may take before it is killed; None means `GRACE_S`.
        """
        grace_s = GRACE_S if grace_s is None else grace_s
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                process.terminate()
        for name, process in reversed(self._processes.items()):
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                logger.warning("%s (process %d) didn't exit within %.0f s; killing it", name, process.pid, grace_s)
                process.kill()
                process.wait()
            # anything it started and left behind is in its group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        self._processes.clear()

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._ended.put((name, process.wait()))


def rankloop_command(*arguments: str) -> list[str]:
    """The command line that runs `rankloop ARGUMENTS` with this interpreter."""
    return [sys.executable, "-m", "ml_backend.cli", *arguments]


def run_up(environment: Mapping[str, str] | None = None) -> int:
    """Run server and worker until Ctrl-C, SIGTERM, or until one of them exits by itself.

    Returns:
        0 after Ctrl-C or SIGTERM, 1 if a child exited by itself.
    """
    with Children(environment) as children, told_to_end(children.interrupt):
        for name in ("serve", "worker"):
            children.start(name, rankloop_command(name))
        ended = children.wait()
    if ended is None:
        return 0
    logger.error("%s exited with code %d, so the other process was stopped too; its output above says why", *ended)
    return 1


@contextlib.contextmanager
def told_to_end(then: Callable[[], None]) -> Iterator[None]:
    """Within the context, SIGINT (Ctrl-C) and SIGTERM only call `then`, in the main thread."""
    before = {number: signal.signal(number, lambda *_: then()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
