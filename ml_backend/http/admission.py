"""How much is let in at once. What can't be answered in time is told to come back, so that health stays quick."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ml_backend.errors import OverloadError


class Admission:
    """Lets a limited number of slow requests in, as long as the queue behind them isn't too long.

    Each request that waits, for the model or for a database that hangs, holds one of the server's threads. With no
    limit a burst of them would take all threads, and Label Studio gives up on health after a second.

    Args:
        at_once: most requests inside.
        patience_s: how long a request waits for one inside to end.
        most_waiting: from this queue length on nobody is let in.
        waiting: tells the queue's length.
    """

    def __init__(
        self,
        *,
        at_once: int,
        patience_s: float = 0.0,
        most_waiting: int = 1,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._at_once = at_once
        self._patience_s = patience_s
        self._most_waiting = most_waiting
        self._waiting = waiting
        self._free = threading.BoundedSemaphore(at_once)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Be inside, or be turned away at once.

        Raises:
            OverloadError: too many are inside, or too much waits.
        """
        waiting = self._waiting()
        if waiting >= self._most_waiting:
            raise OverloadError(f"the backend is busy: {waiting} questions wait for the model")
        if not self._free.acquire(timeout=self._patience_s):
            raise OverloadError(f"the backend is busy: it answers {self._at_once} requests of this kind already")
        try:
            yield
        finally:
            self._free.release()
