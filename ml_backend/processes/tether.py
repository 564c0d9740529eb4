"""A process's tether to the one that started it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# Linux tells a process of its parent's death if it asked for that; the question survives exec. The second look at the
# parent's id is for a parent that died before the question was asked.
_TETHER = """
import ctypes, os, sys
parent, number, niceness = map(int, sys.argv[1:4])
os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, number)
if os.getppid() != parent:
    sys.exit(128 + number)
os.execvp(sys.argv[4], sys.argv[4:])
"""


def tethered(command: Sequence[str], death: signal.Signals = signal.SIGTERM, niceness: int = -20) -> list[str]:
    """The same command, sent a signal when this process dies in any way, also by SIGKILL. (The signal: Linux only.)

    It counts as death when the *thread* ends that started the command, so start it from a thread that stays.

    Args:
        command: what to run.
        death: the signal.
        niceness: the least the command runs with; the lowest there is, -20, leaves it as it is.
    """
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), str(int(death)), str(niceness), *command]
