"""Ports, tethers and log tails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ml_backend.processes.tether import PORTS, free_port, log_tail, tethered


def test_a_free_port_can_be_listened_on() -> None:
    """The port is outside of what outgoing connections take, and nobody holds it."""
    port = free_port()
    assert port in PORTS
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such tether")
def test_a_tethered_process_ends_when_its_parent_is_killed() -> None:
    """SIGKILL leaves a parent no time to clean up; the child ends all the same."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess; from ml_backend.processes.tether import tethered\n"
            "child = subprocess.Popen(tethered(['sleep', '60'])); print(child.pid, flush=True); child.wait()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(timeout=10)


def test_a_tethered_command_gets_its_own_arguments_and_exit_code() -> None:
    """The tether is not seen by the command it holds."""
    done = subprocess.run(
        tethered([sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "['a b', '']\n")


def test_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    """A long log is cut at the front, a missing one is empty."""
    (tmp_path / "log").write_text("\n".join(str(n) for n in range(100)))
    assert log_tail(tmp_path / "log", 2) == "98\n99"
    assert log_tail(tmp_path / "none") == ""
