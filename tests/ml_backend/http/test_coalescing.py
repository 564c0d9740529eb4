"""Many who ask for the same at once: it is done once after each of them asked, and all hear how it went."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ml_backend.errors import JobsError, OverloadError
from ml_backend.http.coalescing import Coalescer


class Work:
    """Counts how often it is done; each time waits for the gate."""

    def __init__(self) -> None:
        self.entered: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.done = 0
        self.failure: Exception | None = None

    def __call__(self) -> int:
        """Once more."""
        self.done += 1
        self.entered.put(self.done)
        assert self.gate.wait(20)
        if self.failure:
            raise self.failure
        return self.done


def _waiting(coalescer: Coalescer, number: int) -> None:
    """Wait until so many calls are within, apart from the one that runs."""
    until = threading.Event()
    for _ in range(2000):
        with coalescer._changed:
            if len(coalescer._changed._waiters) >= number:  # type: ignore[attr-defined]  # nothing else tells
                return
        until.wait(0.005)
    pytest.fail("they didn't come")


def _crowd(pool: ThreadPoolExecutor, coalescer: Coalescer, work: Work, number: int) -> list[Future[int]]:
    """One whose work runs, and others who came after it had begun."""
    first = pool.submit(coalescer.run, "key", work)
    work.entered.get(timeout=20)
    others = [pool.submit(coalescer.run, "key", work) for _ in range(number)]
    _waiting(coalescer, number)
    return [first, *others]


def test_a_crowd_shares_one_turn() -> None:
    """Twenty who come while the first is served are served together, after it."""
    coalescer, work = Coalescer(20.0), Work()
    with ThreadPoolExecutor(21) as pool:
        calls = _crowd(pool, coalescer, work, 20)
        assert work.done == 1
        work.gate.set()
        assert [call.result() for call in calls] == [1] + [2] * 20
    assert coalescer.run("key", work) == 3


def test_keys_do_not_wait_for_each_other() -> None:
    """What is asked for one project isn't held up by another's."""
    coalescer, held, free = Coalescer(20.0), Work(), Work()
    free.gate.set()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(coalescer.run, "a", held)
        held.entered.get(timeout=20)
        assert coalescer.run("b", free) == 1
        held.gate.set()
        assert first.result() == 1


def test_a_failure_is_told_to_all_it_concerns() -> None:
    """Who shared the turn hears of its failure; the next turn begins anew."""
    coalescer, work = Coalescer(20.0), Work()
    work.failure = JobsError("away")
    with ThreadPoolExecutor(4) as pool:
        calls = _crowd(pool, coalescer, work, 3)
        work.gate.set()
        for call in calls:
            with pytest.raises(JobsError):
                call.result()
    work.failure = None
    assert coalescer.run("key", work) == 3


def test_nobody_waits_longer_than_their_patience() -> None:
    """Behind one that hangs all others are told so, and when it is over all is well again."""
    coalescer, work = Coalescer(1.5), Work()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(coalescer.run, "key", work)
        work.entered.get(timeout=20)
        for call in [pool.submit(coalescer.run, "key", work) for _ in range(5)]:
            with pytest.raises(OverloadError):
                call.result(timeout=20)
        began = time.monotonic()
        with pytest.raises(OverloadError):
            coalescer.run("key", work)
        assert time.monotonic() - began < 1.0  # what is known to hang isn't waited for
        assert work.done == 1
        work.gate.set()
        assert first.result() == 1
    assert coalescer.run("key", work) == 2
