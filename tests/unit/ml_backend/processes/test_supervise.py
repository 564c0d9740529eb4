"""Child processes are started, watched and stopped, along with anything they started themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from ml_backend.processes import children as supervision
from ml_backend.processes.children import Children

WAITING = [sys.executable, "-c", "import threading; threading.Event().wait(60)"]


def _gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process ends, or is a zombie, in time."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=within_s)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_that_ends_by_itself_is_noticed() -> None:
    """`wait` returns which child exited, and its exit code."""
    with Children() as children:
        children.start("patient", WAITING)
        children.start("hasty", [sys.executable, "-c", "raise SystemExit(3)"])
        assert children.wait(20) == ("hasty", 3)


def test_leaving_the_context_ends_every_child() -> None:
    """No child survives, and `interrupt` wakes a waiting parent."""
    with Children() as children:
        pids = [children.start(name, WAITING) for name in ("one", "two")]
        children.interrupt()
        assert children.wait(5) is None
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert all(_gone(pid) for pid in pids)


def test_a_stubborn_child_is_killed_with_what_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace period, and so is its own child."""
    monkeypatch.setattr(supervision, "GRACE_S", 0.3)
    note = tmp_path / "grandchild"
    script = textwrap.dedent(
        f"""
        import pathlib, signal, subprocess, sys, threading
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        inner = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(60)"])
        path = pathlib.Path({str(note)!r})
        path.with_suffix(".new").write_text(str(inner.pid))
        path.with_suffix(".new").rename(path)
        threading.Event().wait(60)
        """
    )
    with Children() as children:
        pid = children.start("stubborn", [sys.executable, "-c", script])
        deadline = time.monotonic() + 20
        while not note.exists() and time.monotonic() < deadline:
            children.wait(0.05)
    assert _gone(pid)
    assert _gone(int(note.read_text(encoding="utf-8")))


def test_output_goes_to_a_file_where_one_is_wanted(tmp_path: Path) -> None:
    """With `logs`, a child's stdout and stderr go to the file named after it; its environment is as given."""
    command = [sys.executable, "-c", "import os, sys; print(os.environ['GREETING']); print('oh', file=sys.stderr)"]
    with Children({"GREETING": "hello"}, tmp_path) as children:
        children.start("talker", command)
        assert children.wait(20) == ("talker", 0)
    assert sorted((tmp_path / "talker.log").read_text(encoding="utf-8").split()) == ["hello", "oh"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_children_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM to the parent stops both children, and the exit code is 0."""
    script = textwrap.dedent(
        """
        import sys
        from ml_backend.processes import children
        waiting = [sys.executable, "-c", "import os, threading; os.write(1, b'up'); threading.Event().wait(60)"]
        children.rankloop_command = lambda name: waiting
        sys.exit(children.run_up())
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read(4) == b"upup"
        pids = [child.pid for child in psutil.Process(parent.pid).children()]
        assert len(pids) == 2
        os.kill(parent.pid, number)
        assert parent.wait(20) == 0
    assert all(_gone(pid) for pid in pids)
