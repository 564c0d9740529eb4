"""How a measured process takes turns with the others: it waits for its turn, does a unit of work, reports the time.

Standard library only. Messages are lines of JSON over pipes; anything a library prints goes to the log.
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
    """Seconds of wall-clock time, or of CPU time, which other load on the machine hardly affects."""
    return time.process_time() if os.environ.get(CLOCK_VARIABLE) == "cpu" else time.perf_counter()


def threads() -> int:
    """Number of threads per contestant."""
    return int(os.environ.get(THREADS_VARIABLE, "2"))


class Turns:
    """The measured process's end. Create it before any library prints something."""

    def __init__(self) -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._started = 0.0

    def wait(self) -> None:
        """Report readiness and wait for the next turn; exits the process when there is none."""
        self._tell({"ready": True})
        if sys.stdin.readline().strip() != "go":
            sys.stdout.flush()
            os._exit(0)  # a trainer in the middle of its loop has nothing to clean up
        self._started = clock()

    def done(self, units: float = 1.0, **facts: Any) -> None:
        """Report how long the turn took, scaled to seconds per unit if it did `units` units of work."""
        seconds = (clock() - self._started) / units
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._tell({"seconds": seconds, "peak_mb": peak_mb, **facts})

    def serve(self, work: Callable[[], dict[str, Any] | None], units: float = 1.0) -> None:
        """Do `work` once per turn."""
        while True:
            self.wait()
            facts = work() or {}
            self.done(units, **facts)

    def _tell(self, message: dict[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
