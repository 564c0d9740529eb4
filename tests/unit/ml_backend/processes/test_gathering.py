"""Bursts are coalesced into a few calls, the last call is always covered, and a hanging one blocks no caller."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml_backend.errors import JobsError, OverloadError
from ml_backend.processes.gathering import Gathered


class Hearer:
    """Records what was passed on, and whether in the test's own thread; each call waits for the gate."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool]] = []
        self.entered: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def __call__(self, key: int) -> None:
        """Record one call."""
        self.heard.append((key, threading.current_thread() is threading.main_thread()))
        self.entered.put(key)
        assert self.gate.wait(20)
        if self.failure:
            raise self.failure


@pytest.fixture
def hear() -> Hearer:
    """A recorder with an open gate."""
    return Hearer()


def _timers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}


def test_a_burst_is_passed_on_twice(hear: Hearer) -> None:
    """The first call is passed on at once, in its caller's thread; the next ninety-nine become one more."""
    tell = Gathered(hear, every_s=0.2)
    for _ in range(100):
        tell(7)
    assert hear.heard == [(7, True)]
    assert [hear.entered.get(timeout=5) for _ in range(2)] == [7, 7]
    assert hear.heard == [(7, True), (7, False)]


def test_a_crowd_does_not_wait_for_the_one_that_runs(hear: Hearer) -> None:
    """Thirty calls during a running one return at once; one call after it covers them all, on one thread."""
    tell = Gathered(hear, every_s=0.1, patience_s=20)
    hear.gate.clear()
    before = _timers()
    with ThreadPoolExecutor(31) as pool:
        first = pool.submit(tell, 7)
        hear.entered.get(timeout=20)
        for call in [pool.submit(tell, 7) for _ in range(30)]:
            assert call.result(timeout=20) is None
        assert not first.done()
        assert len(hear.heard) == 1
        assert _timers() <= before
        hear.gate.set()
        first.result(timeout=20)
    hear.entered.get(timeout=5)
    assert len(hear.heard) == 2


def test_calls_follow_each_other_at_a_distance(hear: Hearer) -> None:
    """A stream of 200 calls in a second becomes one every 0.2 s, and one more at the end."""
    tell = Gathered(hear, every_s=0.2)
    began = time.monotonic()
    for _ in range(200):
        tell(7)
        threading.Event().wait(0.005)
    most = (time.monotonic() - began) / 0.2 + 1
    tell.close()
    assert 2 <= len(hear.heard) <= most + 1


def test_keys_do_not_wait_for_each_other(hear: Hearer) -> None:
    """Each project has its own first call, even while another project's hangs."""
    tell = Gathered(hear, every_s=60)
    for key in (1, 2, 1):
        tell(key)
    assert hear.heard == [(1, True), (2, True)]
    hear.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(tell, 3)
        assert [hear.entered.get(timeout=20) for _ in range(3)] == [1, 2, 3]
        hear.gate.set()
        tell(4)
        held.result(timeout=20)
    tell.close()
    assert [key for key, _ in hear.heard] == [1, 2, 3, 4, 1]


def test_nobody_waits_behind_one_that_hangs(hear: Hearer) -> None:
    """Once a call hangs, callers are told so at once and when to retry; after it ends, all works again."""
    tell = Gathered(hear, every_s=0.0, patience_s=0.3)
    hear.gate.clear()
    before = _timers()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tell, 7)
        hear.entered.get(timeout=20)
        threading.Event().wait(0.4)
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(OverloadError, match=r"the job queue is busy\. Try again in 5 seconds\."):
                tell(7)
        assert time.monotonic() - began < 1.0
        assert _timers() <= before
        hear.gate.set()
        first.result(timeout=20)
    hear.entered.get(timeout=5)  # they are covered nevertheless
    tell.close()
    assert len(hear.heard) == 2
    tell(7)
    assert hear.heard[2:] == [(7, True)]


def test_only_the_first_caller_hears_of_a_failure(hear: Hearer, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for coalesced calls; their failure is logged and stops neither the thread nor later calls."""
    hear.failure = JobsError("the job queue can't be used")
    tell = Gathered(hear, every_s=60)
    with pytest.raises(JobsError):
        tell(7)
    tell(7)
    tell.close()
    assert hear.heard == [(7, True)] * 2
    assert "project 7 is left to reconciliation: the job queue can't be used." in caplog.text
    tell.close()
    assert len(hear.heard) == 2


def test_closing_waits_for_the_call_that_runs(hear: Hearer) -> None:
    """Calls made during a running one are covered before closing returns; one that hangs is abandoned."""
    tell = Gathered(hear, every_s=60, patience_s=0.5)
    hear.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tell, 7)
        hear.entered.get(timeout=20)
        tell(7)
        tell.close()
        assert len(hear.heard) == 1
        hear.gate.set()
        tell.close()
        first.result(timeout=20)
    assert hear.heard == [(7, False), (7, True)]
