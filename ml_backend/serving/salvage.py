"""One bad item doesn't fail the batch that it is in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def salvaged(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], instead: Callable[[Item], Result]
) -> list[Result]:
    """Run a batch; if it fails, its halves, down to single items, of which those that fail get a substitute.

    Args:
        run: computes one result per item, in order.
        items: the batch.
        instead: the substitute for an item that fails on its own.

    Raises:
        Exception: every item fails, so the items aren't to blame; what `run` raised for the whole batch.
    """
    try:
        return list(run(items))
    except Exception as error:
        failed: list[int] = []
        if len(items) > 1:
            results = _halves(run, items, 0, instead, failed)
            if len(failed) < len(items):
                logger.warning(
                    "%d of a batch of %d items fail and are left out", len(failed), len(items), exc_info=error
                )
                return results
        raise


def _halves(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    start: int,
    instead: Callable[[Item], Result],
    failed: list[int],
) -> list[Result]:
    """A failed batch's results, by way of its halves. `start` is the place of its first item in the whole batch."""
    middle = len(items) // 2
    results: list[Result] = []
    for part, first in ((items[:middle], start), (items[middle:], start + middle)):
        try:
            results += run(part)
        except Exception:
            if len(part) > 1:
                results += _halves(run, part, first, instead, failed)
            else:
                failed.append(first)
                results.append(instead(part[0]))
    return results
