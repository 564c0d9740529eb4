"""Long lists, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of a list.

    name: the query parameter that chooses the part.
    number, parts: which part it is, from 1, and how many there are.
    first, total: the number of its first item, from 1, and of all items.
    """

    items: tuple[T, ...]
    name: str
    number: int
    parts: int
    first: int
    total: int

    @property
    def last(self) -> int:
        """The number of its last item."""
        return self.first + len(self.items) - 1


def part_of(items: Sequence[T], name: str, asked: str | None, size: int) -> Part[T]:
    """The part that was asked for; the nearest one if there is no such part, and the first if it isn't a number."""
    parts = max(1, -(-len(items) // size))
    number = int(asked) if asked and asked.isascii() and asked.isdecimal() and len(asked) < 9 else 1
    number = min(max(1, number), parts)
    start = (number - 1) * size
    return Part(tuple(items[start : start + size]), name, number, parts, start + 1, len(items))
