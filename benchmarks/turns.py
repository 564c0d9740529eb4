"""How a measured process takes turns with the others: it waits for its turn, does one unit of work, tells the time.

Standard library only. Lines of JSON over pipes; whatever else a library prints goes to the log.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

CLOCK_VARIABLE = "BENCH_CLOCK"
THREADS_VARIABLE = "BENCH_THREADS"


def clock() -> float:
    """Seconds on the wall; or of the processor, which a machine that is busy with other things doesn't stretch."""
    return time.process_time() if os.environ.get(CLOCK_VARIABLE) == "cpu" else time.perf_counter()


def threads() -> int:
    """How many threads everybody computes with."""
    return int(os.environ.get(THREADS_VARIABLE, "2"))


class Turns:
    """The measured process' end. Make it first, before a library prints anything."""

    def __init__(self) -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._started = 0.0

    def wait(self) -> None:
        """Say that all is ready and wait for the next turn; ends the process when there is none."""
        self._tell({"ready": True})
        if sys.stdin.readline().strip() != "go":
            sys.stdout.flush()
            os._exit(0)  # a trainer in the middle of its loop has nothing to clean up
        self._started = clock()

    def done(self, units: float = 1.0, **facts: Any) -> None:
        """Tell how long the turn took, as seconds for one whole unit when it did only `units` of one."""
        seconds = (clock() - self._started) / units
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._tell({"seconds": seconds, "peak_mb": peak_mb, **facts})

    def serve(self, work: Callable[[], dict[str, Any] | None], units: float = 1.0) -> None:
        """Do `work` once a turn."""
        while True:
            self.wait()
            facts = work() or {}
            self.done(units, **facts)

    def _tell(self, message: dict[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
