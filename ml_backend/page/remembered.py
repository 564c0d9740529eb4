"""Answers of slow parts, remembered for a few seconds, so that a page takes milliseconds and never hangs on them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from training.errors import RankloopError

FRESH_S = 4.0
"""How long an answer counts as fresh."""
PATIENCE_S = 1.0
"""How long a page waits for a fresh answer before it shows the last one."""
REMEMBERED = 500
"""The most answers kept."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A part's last answer.

    value: what it said, None if it never answered.
    at: when, in seconds since 1970; None if never.
    fault: why there is nothing newer and what to do; None if it answered.
    """

    value: T | None
    at: float | None
    fault: str | None


class Remembered:
    """Asks each part in a thread of its own, once at a time. Thread-safe.

    Args:
        clock: the time in seconds.
        patience_s: see `PATIENCE_S`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, patience_s: float = PATIENCE_S) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._known: OrderedDict[Hashable, Known[Any]] = OrderedDict()
        self._fresh_until: dict[Hashable, float] = {}
        self._asking: dict[Hashable, float] = {}  # since when
        self._changed = threading.Condition()

    def start(self, key: Hashable, ask: Callable[[], T]) -> None:
        """Begin to ask, unless a fresh answer is there. A page starts all it needs before it waits for any."""
        with self._changed:
            if key in self._asking or self._clock() < self._fresh_until.get(key, float("-inf")):
                return
            self._asking[key] = self._clock()
        threading.Thread(target=self._ask, args=(key, ask), name="rankloop-page", daemon=True).start()

    def get(self, key: Hashable, ask: Callable[[], T]) -> Known[T]:
        """The answer: fresh if it comes in time, else the last one, with what is wrong."""
        self.start(key, ask)
        with self._changed:
            # a part that has been hanging for long holds nobody up, and several parts hold a page up only once
            waited_s = self._clock() - self._asking.get(key, float("-inf"))
            self._changed.wait_for(lambda: key not in self._asking, max(0.0, self._patience_s - waited_s))
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        return Known(None, None, "It hasn't answered yet. Reload the page in a moment.")

    def forget(self) -> None:
        """Let every answer count as stale: something was changed."""
        with self._changed:
            self._fresh_until.clear()

    def _ask(self, key: Hashable, ask: Callable[[], Any]) -> None:
        began = self._clock()
        try:
            found = Known(ask(), time.time(), None)
        except RankloopError as error:
            logger.warning("a page shows older figures: %s", error)
            found = self._failed(key, str(error))
        except Exception:
            logger.exception("a page shows older figures")
            found = self._failed(key, "An unforeseen error; the log has the reason.")
        with self._changed:
            self._known[key] = found
            self._fresh_until[key] = began + FRESH_S
            while len(self._known) > REMEMBERED:
                oldest, _ = self._known.popitem(last=False)
                self._fresh_until.pop(oldest, None)
            self._asking.pop(key, None)
            self._changed.notify_all()

    def _failed(self, key: Hashable, fault: str) -> Known[Any]:
        with self._changed:
            last = self._known.get(key)
        return Known(last.value if last else None, last.at if last else None, fault)
