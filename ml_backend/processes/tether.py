"""Ties a child process's life to its parent's."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# On Linux a process can ask for a signal when its parent dies, and the request survives exec. Checking the parent's id
# afterwards covers a parent that died before the request.
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
    """Wrap a command so that it gets a signal (on Linux) when this process dies in any way, even by SIGKILL.

    The end of the *thread* that started the command counts as death, so start it from a long-lived thread.

    Args:
        command: what to run.
        death: the signal.
        niceness: the command's minimum niceness; -20, the lowest there is, leaves it unchanged.
    """
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), str(int(death)), str(niceness), *command]
