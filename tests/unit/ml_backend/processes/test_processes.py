"""Ports, tethers, threads and log tails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import PORTS, free_port
from ml_backend.processes.tether import tethered
from ml_backend.processes.threads import SHARED_CORES, training_threads


def test_a_free_port_can_be_listened_on() -> None:
    """The port is outside the range of outgoing connections, and not in use."""
    port = free_port()
    assert port in PORTS
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such tether")
@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_a_tethered_process_ends_when_its_parent_is_killed(death: signal.Signals) -> None:
    """SIGKILL leaves a parent no time to clean up; the child ends anyway, even if it ignores SIGTERM."""
    ignoring = "trap '' TERM; " if death == signal.SIGKILL else ""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, subprocess; from ml_backend.processes.tether import tethered\n"
            f"command = tethered(['sh', '-c', {f'{ignoring}echo $$; exec sleep 60'!r}], signal.{death.name})\n"
            "subprocess.Popen(command).wait()",
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
    """The tether is invisible to the wrapped command."""
    done = subprocess.run(
        tethered([sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "['a b', '']\n")


def test_a_tethered_command_yields_to_others_as_told() -> None:
    """It runs with the requested niceness, but never with less than it would have anyway."""
    show = [sys.executable, "-c", "import os; print(os.nice(0))"]
    own = os.nice(0)
    for asked, expected in ((-20, own), (0, max(own, 0)), (own + 3, own + 3)):
        assert subprocess.check_output(tethered(show, niceness=asked)) == b"%d\n" % expected


def test_a_tethered_command_whose_parent_is_gone_never_starts() -> None:
    """The parent may die before the tether is set up; here another process sits between the two from the start."""
    command = tethered(["echo", "started"], signal.SIGKILL)
    between = ["sh", "-c", '"$@"; exit $?', "sh"]
    done = subprocess.run([*between, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGKILL, "")


def test_training_leaves_a_core_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight cores, training uses seven, of two both; either way idle threads sleep."""
    for cores, threads in ((8, "7"), (3, "2"), (2, "2"), (1, "1")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)), raising=False)
        assert training_threads() == {**SHARED_CORES, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def test_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    """A long log is cut at the front, a missing one is empty."""
    (tmp_path / "log").write_text("\n".join(str(n) for n in range(100)))
    assert log_tail(tmp_path / "log", 2) == "98\n99"
    assert log_tail(tmp_path / "none") == ""
