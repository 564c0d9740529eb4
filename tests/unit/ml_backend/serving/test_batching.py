"""The queue in front of the model: order, fairness, deadlines, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml_backend.serving.batching import FairBatcher


class Gate:
    """Answers an item with ten times its value; its gate can be closed to let a queue build up."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[tuple[str, list[int]]] = []

    def run(self, group: str, items: Sequence[int]) -> list[int]:
        """Answer a batch once the gate is open."""
        self.batches.append((group, list(items)))
        self.entered.set()
        assert self.open.wait(10)
        if -1 in items:
            raise ValueError("bad item")
        return [10 * item for item in items]


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()


@pytest.fixture
def batcher(gate: Gate) -> Iterator[FairBatcher[str, int, int]]:
    """A running batcher with batches of four."""
    batcher: FairBatcher[str, int, int] = FairBatcher(gate.run, batch_size=4)
    batcher.start()
    yield batcher
    gate.open.set()
    batcher.stop()


def _wait_for_queue(batcher: FairBatcher[str, int, int], length: int) -> None:
    until = time.monotonic() + 5
    while len(batcher) != length:
        assert time.monotonic() < until, f"{len(batcher)} wait, not {length}"
        time.sleep(0.001)


def test_results_come_in_order_whatever_the_batches(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """Ten items in batches of four are answered in their own order."""
    gate.open.set()
    assert batcher.submit("a", range(10), deadline_s=5) == [10 * n for n in range(10)]
    assert [len(items) for _, items in gate.batches] == [4, 4, 2]


def test_what_nobody_waits_for_does_not_count(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """A request past its deadline leaves nothing behind that would make the queue look long."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.submit, "a", range(4), deadline_s=10)
        assert gate.entered.wait(10)
        late = batcher.submit("b", range(100), deadline_s=0.05)
        assert (late, len(batcher)) == ([None] * 100, 0)
        gate.open.set()
        assert first.result() == [0, 10, 20, 30]
        assert batcher.submit("a", [7], deadline_s=10) == [70]
    assert len(batcher) == 0


def test_no_items_need_no_batch(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """An empty request is answered at once."""
    assert batcher.submit("a", [], deadline_s=5) == []
    assert gate.batches == []


def test_one_question_does_not_wait_behind_thousands(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """A request for one answer shares the very next batch with a request for many."""
    with ThreadPoolExecutor() as pool:
        many = pool.submit(batcher.submit, "a", range(100, 140), deadline_s=10)
        assert gate.entered.wait(5)
        one = pool.submit(batcher.submit, "a", [7], deadline_s=10)
        _wait_for_queue(batcher, 37)
        gate.open.set()
        assert one.result() == [70]
        assert many.result() == [10 * n for n in range(100, 140)]
    assert 7 in gate.batches[1][1]


def test_callers_at_the_same_time_share_a_batch(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """Four single questions waiting together are answered in one batch."""
    with ThreadPoolExecutor() as pool:
        first = pool.submit(batcher.submit, "a", [0], deadline_s=10)
        assert gate.entered.wait(5)
        others = [pool.submit(batcher.submit, "a", [n], deadline_s=10) for n in (1, 2, 3, 4)]
        _wait_for_queue(batcher, 4)
        gate.open.set()
        assert [future.result() for future in [first, *others]] == [[0], [10], [20], [30], [40]]
    assert [len(items) for _, items in gate.batches] == [1, 4]


def test_groups_never_share_a_batch(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """Items of different groups (model versions) are answered in separate batches."""
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(batcher.submit, group, range(3), deadline_s=10) for group in "abab"]
        assert gate.entered.wait(5)
        gate.open.set()
        assert [future.result() for future in futures] == [[0, 10, 20]] * 4
    assert sum(len(items) for _, items in gate.batches) == 12


def test_what_does_not_fit_into_the_time_is_none(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """A caller gets None at its deadline, and its remaining items are not computed."""
    assert batcher.submit("a", range(8), deadline_s=0.05) == [None] * 8
    gate.open.set()
    assert batcher.submit("a", [9], deadline_s=5) == [90]
    assert [items for _, items in gate.batches] == [[0, 1, 2, 3], [9]]


def test_a_fault_reaches_its_caller_and_nobody_later(gate: Gate, batcher: FairBatcher[str, int, int]) -> None:
    """A batch's error is raised to its callers; the next request is answered."""
    gate.open.set()
    with pytest.raises(ValueError, match="bad item"):
        batcher.submit("a", [-1], deadline_s=5)
    assert batcher.submit("a", [1], deadline_s=5) == [10]


def test_stopping_releases_who_waits(gate: Gate) -> None:
    """Callers in the queue get None when the batcher stops, instead of waiting for their deadline."""
    batcher: FairBatcher[str, int, int] = FairBatcher(gate.run, batch_size=1)
    batcher.start()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(batcher.submit, "a", [1, 2], deadline_s=60)
        assert gate.entered.wait(5)
        stopping = pool.submit(batcher.stop)
        assert waiting.result(timeout=5) == [None, None]
        gate.open.set()
        stopping.result(timeout=5)


def test_a_slow_model_answers_some_in_time_rather_than_none() -> None:
    """At 50 ms an item a whole batch of 32 would miss a deadline of half a second; smaller ones don't."""

    def slow(_: str, items: Sequence[int]) -> list[int]:
        threading.Event().wait(0.05 * len(items))
        return list(items)

    batcher: FairBatcher[str, int, int] = FairBatcher(slow, batch_size=32)
    batcher.start()
    try:
        results = batcher.submit("a", range(100), deadline_s=0.5)
    finally:
        batcher.stop()
    done = [result for result in results if result is not None]
    assert 4 <= len(done) <= 10
    assert done == list(range(len(done)))
