"""Many equal calls in a row made few: the first is passed on at once, those that closely follow it as one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from training.errors import RankloopError

logger = logging.getLogger(__name__)


class Gathered:
    """Passes calls on, at most one per key within `every_s`; none is left without a call after it.

    Label Studio waits for its webhooks, and a burst of them says the same thing a hundred times. What the first says
    is stored before it is answered; the others find out that it was, and one more at the end says that there were
    others. A process that dies in between leaves them to reconciliation.

    Args:
        pass_on: what is called with the key, in the caller's thread or in one of its own.
        every_s: how closely calls may follow each other.
    """

    def __init__(self, pass_on: Callable[[int], object], every_s: float) -> None:
        self._pass_on = pass_on
        self._every_s = every_s
        self._lock = threading.Lock()
        self._last: dict[int, float] = {}
        self._waiting: dict[int, threading.Timer] = {}

    def __call__(self, key: int) -> None:
        """Pass a call on now, or with others later.

        Raises:
            Exception: what `pass_on` raises, where it is called at once.
        """
        with self._lock:
            if key in self._waiting:
                return
            now = time.monotonic()
            left_s = self._last.get(key, float("-inf")) + self._every_s - now
            if left_s > 0:
                timer = self._waiting[key] = threading.Timer(left_s, self._late, (key,))
                timer.daemon = True
                timer.start()
                return
            self._last[key] = now
        self._pass_on(key)

    def close(self) -> None:
        """Pass on now what waits."""
        with self._lock:
            waiting = dict(self._waiting)
        for key, timer in waiting.items():
            timer.cancel()
            self._late(key)

    def _late(self, key: int) -> None:
        with self._lock:
            if self._waiting.pop(key, None) is None:
                return
            self._last[key] = time.monotonic()
        try:
            self._pass_on(key)
        except RankloopError as error:
            logger.warning("project %d is left to reconciliation: %s", key, error)
