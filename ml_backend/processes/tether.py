"""Small things that starting servers as child processes takes: a free port, a tether, the end of a log."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

PORTS = range(20_000, 30_000)
"""Below what systems hand out to outgoing connections, so that a port which is free now is free a moment later."""

SHARED_CORES = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
"""Environment of processes that compute beside others: threads that wait for each other sleep. By default they spin,
and with more such threads than cores everything becomes ten to fifty times slower."""

# Linux tells a process of its parent's death if it asked for that; the question survives exec. The second look at the
# parent's id is for a parent that died before the question was asked.
_TETHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tethered(command: Sequence[str]) -> list[str]:
    """The same command, told to end (SIGTERM) when this process dies in any way, also by SIGKILL. Linux only.

    It counts as death when the *thread* ends that started the command, so start it from a thread that stays.
    """
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free on {host}")


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
