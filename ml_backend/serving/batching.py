"""Batching for one model shared by many requests, with fair scheduling between them."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Group = TypeVar("Group", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST_BATCH = 4
"""Size of the first batch, before the time per item is known."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Order(Generic[Result]):
    """One caller's items: the results so far, and whether the caller is still waiting."""

    deadline: float
    results: list[Result | None]
    left: int
    queued: int
    failure: BaseException | None = None
    abandoned: bool = False


@dataclass(order=True, slots=True)
class _Ticket(Generic[Group, Item, Result]):
    turn: int
    number: int
    group: Group = field(compare=False)
    item: Item = field(compare=False)
    index: int = field(compare=False)
    order: _Order[Result] = field(compare=False)


class FairBatcher(Generic[Group, Item, Result]):
    """Runs items in batches on one thread, merging concurrent requests.

    On a few cores two concurrent generations are far slower than two in sequence, so only one batch runs at a time.
    An item's turn is the current turn plus its position in its own request, so a request for one answer doesn't wait
    behind a request for thousands. Batches are sized from the time recent ones took so that they finish within their
    callers' deadlines: a slow model answers some items in time rather than none.

    Args:
        run: computes the results of one batch, in order; all its items belong to the same group.
        batch_size: the maximum number of items in a batch.
    """

    def __init__(self, run: Callable[[Group, Sequence[Item]], Sequence[Result]], *, batch_size: int) -> None:
        self._run = run
        self._batch_size = batch_size
        self._waiting: list[_Ticket[Group, Item, Result]] = []
        self._queued = 0  # tickets whose caller is still waiting; the others are dropped when their turn comes
        self._numbers = itertools.count()
        self._turn = 0
        self._item_s: float | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that runs batches. Idempotent."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rankloop-batches", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop after the current batch; callers still waiting get None for unfinished items."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def __len__(self) -> int:
        """The number of queued items whose caller is still waiting."""
        return self._queued

    def submit(self, group: Group, items: Sequence[Item], *, deadline_s: float) -> list[Result | None]:
        """Wait at most `deadline_s` seconds for the items' results.

        Returns:
            One result per item, in order; None for items that weren't finished in time.

        Raises:
            Exception: whatever `run` raised for a batch that contained one of these items.
        """
        number = len(items)
        order: _Order[Result] = _Order(time.monotonic() + deadline_s, [None] * number, left=number, queued=number)
        with self._changed:
            for index, item in enumerate(items):
                ticket = _Ticket(self._turn + index, next(self._numbers), group, item, index, order)
                heapq.heappush(self._waiting, ticket)
            self._queued += number
            self._changed.notify_all()
            while order.left and order.failure is None and not self._stopped:
                remaining_s = order.deadline - time.monotonic()
                if remaining_s <= 0:
                    break
                self._changed.wait(remaining_s)
            order.abandoned = True
            self._queued -= order.queued
            if order.failure is not None:
                raise order.failure
            return list(order.results)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                batch = self._next_batch()
            if batch:
                self._answer(batch)

    def _next_batch(self) -> list[_Ticket[Group, Item, Result]]:
        """Take the next tickets: all of one group, not abandoned, and not past their deadline."""
        batch: list[_Ticket[Group, Item, Result]] = []
        other_groups = []
        now = time.monotonic()
        room = self._batch_size
        while self._waiting and len(batch) < room:
            ticket = heapq.heappop(self._waiting)
            if ticket.order.abandoned:
                continue
            if ticket.order.deadline <= now:
                self._take(ticket)
                continue
            if batch and ticket.group != batch[0].group:
                other_groups.append(ticket)
                continue
            self._take(ticket)
            batch.append(ticket)
            room = min(room, self._room(ticket.order.deadline - now))
        for ticket in other_groups:
            heapq.heappush(self._waiting, ticket)
        if batch:
            self._turn = max(self._turn, batch[0].turn)
        return batch

    def _take(self, ticket: _Ticket[Group, Item, Result]) -> None:
        ticket.order.queued -= 1
        self._queued -= 1

    def _room(self, left_s: float) -> int:
        """How many items safely fit into the remaining time; at least one, so that something is tried."""
        if self._item_s is None:
            return FIRST_BATCH
        return max(1, int(0.5 * left_s / max(self._item_s, 1e-9)))

    def _answer(self, batch: Sequence[_Ticket[Group, Item, Result]]) -> None:
        started = time.monotonic()
        try:
            results = self._run(batch[0].group, [ticket.item for ticket in batch])
            answered = list(zip(batch, results, strict=True))
            self._item_s = (time.monotonic() - started) / len(batch)
        except Exception as error:
            logger.exception("a batch of %d failed", len(batch))
            with self._changed:
                for ticket in batch:
                    ticket.order.failure = error
                self._changed.notify_all()
            return
        with self._changed:
            for ticket, result in answered:
                ticket.order.results[ticket.index] = result
                ticket.order.left -= 1
            self._changed.notify_all()
