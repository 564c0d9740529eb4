"""Bursts of calls become few, and none is the last without being heard."""

from __future__ import annotations

import threading

import pytest

from ml_backend.errors import JobsError
from ml_backend.loop.gathering import Gathered


def test_a_burst_is_passed_on_twice() -> None:
    """The first call at once, in its caller's thread; the ninety-nine after it as one more."""
    heard: list[tuple[int, bool]] = []
    second = threading.Event()

    def hear(key: int) -> None:
        heard.append((key, threading.current_thread() is threading.main_thread()))
        if len(heard) == 2:
            second.set()

    tell = Gathered(hear, every_s=0.2)
    for _ in range(100):
        tell(7)
    assert heard == [(7, True)]
    assert second.wait(5)
    assert heard == [(7, True), (7, False)]


def test_keys_do_not_wait_for_each_other() -> None:
    """Each project has a first call of its own."""
    heard: list[int] = []
    tell = Gathered(heard.append, every_s=60)
    for key in (1, 2, 1):
        tell(key)
    assert heard == [1, 2]
    tell.close()
    assert heard == [1, 2, 1]


def test_only_the_first_caller_hears_of_a_failure() -> None:
    """Nobody waits for those that are gathered; their failure doesn't end the thread or the next call."""
    calls: list[int] = []

    def fail(key: int) -> None:
        calls.append(key)
        raise JobsError("the job queue can't be used")

    tell = Gathered(fail, every_s=60)
    with pytest.raises(JobsError):
        tell(7)
    tell(7)
    tell.close()
    assert calls == [7, 7]
    tell.close()
    assert calls == [7, 7]
