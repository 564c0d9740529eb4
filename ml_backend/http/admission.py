"""Admission control: requests that can't be answered in time are told to retry, so that health stays quick."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ml_backend.errors import OverloadError


class Admission:
    """Admits a limited number of slow requests, as long as the queue behind them isn't too long.

    Each request waiting for the model or for a hanging database holds one of the server's threads. Without a limit a
    burst would take all threads, and Label Studio gives up on health after a second.

    Args:
        at_once: the maximum number of concurrent requests.
        patience_s: how long a request waits for another one to end.
        most_waiting: the queue length from which no request is admitted.
        waiting: returns the queue's length.
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
        """Hold a place for one request.

        Raises:
            OverloadError: too many requests are inside, or the queue is too long.
        """
        waiting = self._waiting()
        if waiting >= self._most_waiting:
            raise OverloadError(f"the backend is busy: {waiting} questions are waiting for the model")
        if not self._free.acquire(timeout=self._patience_s):
            raise OverloadError(f"the backend is busy: it is already answering {self._at_once} requests of this kind")
        try:
            yield
        finally:
            self._free.release()
