"""Coalescing of equal calls: the first is passed on at once; those during it or shortly after it become one call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ml_backend.errors import OverloadError
from training.errors import RankloopError

PATIENCE_S = 0.9
"""How long a call may run before callers are told that it hangs: Label Studio gives its webhooks one second."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Calls:
    """One key's calls: when the last one began, whether it is running, and whether others are waiting to be covered."""

    began: float = float("-inf")
    running: bool = False
    waiting: bool = False


class Gathered:
    """Coalesces calls: one at a time per key, at most one per `every_s`, and always one after the last.

    Label Studio waits for its webhooks, and a burst of them says the same thing a hundred times. The first is stored
    before it is answered; the others return at once and are covered by one more call at the end. If the process dies in
    between, reconciliation picks them up.

    Args:
        pass_on: called with the key, in the caller's thread or in a thread of its own.
        every_s: the shortest interval between two calls.
        patience_s: how long a call may run before further callers are turned away.
    """

    def __init__(self, pass_on: Callable[[int], object], every_s: float, patience_s: float = PATIENCE_S) -> None:
        self._pass_on = pass_on
        self._every_s = every_s
        self._patience_s = patience_s
        self._keys: dict[int, _Calls] = {}
        self._changed = threading.Condition()

    def __call__(self, key: int) -> None:
        """Pass a call on now, or together with others later.

        Raises:
            OverloadError: the running call hangs. Another call is still made once it returns.
            Exception: whatever `pass_on` raises, if it is called at once.
        """
        with self._changed:
            calls = self._keys.setdefault(key, _Calls())
            since_s = time.monotonic() - calls.began
            if calls.running or since_s < self._every_s:
                if not calls.running and not calls.waiting:
                    self._cover_later(key, calls)
                calls.waiting = True
                if calls.running and since_s > self._patience_s:
                    raise OverloadError("the job queue is busy")
                return
            self._begin(calls)
        self._run(key, calls)

    def close(self) -> None:
        """Pass on waiting calls now, after the running ones unless they hang."""
        with self._changed:
            self._changed.wait_for(lambda: not any(calls.running for calls in self._keys.values()), self._patience_s)
            keys = list(self._keys)
        for key in keys:
            self._cover(key)

    def _begin(self, calls: _Calls) -> None:
        calls.began, calls.running, calls.waiting = time.monotonic(), True, False

    def _run(self, key: int, calls: _Calls) -> None:
        try:
            self._pass_on(key)
        finally:
            with self._changed:
                calls.running = False
                if calls.waiting:
                    self._cover_later(key, calls)
                self._changed.notify_all()

    def _cover_later(self, key: int, calls: _Calls) -> None:
        """Schedule the call that covers the waiting callers, on another thread."""
        timer = threading.Timer(calls.began + self._every_s - time.monotonic(), self._cover, (key,))
        timer.daemon = True
        timer.start()

    def _cover(self, key: int) -> None:
        calls = self._keys[key]
        with self._changed:
            if calls.running or not calls.waiting:
                return
            self._begin(calls)
        try:
            self._run(key, calls)
        except RankloopError as error:
            logger.warning("project %d is left to reconciliation: %s", key, error)
