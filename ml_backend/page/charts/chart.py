"""A chart as data: what is drawn and what its table says are the same numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ml_backend.page.figures import NOTHING, number, share

WIDTH, HEIGHT = 5.0, 2.9
"""In inches; small, so that the text is readable on a phone."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value: at x, with an interval where there is one. Without a `y` there is a gap."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart; `is_marked` draws single points instead."""

    name: str
    points: tuple[Point, ...]
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and the table that says the same.

    name: in its address.
    over: what its x is; `up` what its y is.
    sentence: what it shows, for those who can't see it.
    is_share: whether y is a share of 0 to 1.
    labels: names of the values of x, if they aren't numbers.
    is_lying: x and y change places, for long labels.
    """

    name: str
    title: str
    over: str
    up: str
    sentence: str
    series: tuple[Series, ...]
    is_share: bool = False
    labels: tuple[str, ...] = ()
    is_lying: bool = False

    @property
    def digest(self) -> str:
        """Changes with anything it shows."""
        return hashlib.sha256(repr(self).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @property
    def width(self) -> float:
        """How wide it is, in inches."""
        return WIDTH

    @property
    def height(self) -> float:
        """How high it is, in inches."""
        return max(1.8, 1.0 + 0.45 * len(self.labels)) if self.is_lying else HEIGHT

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the table's columns."""
        return (self.over, *(series.name for series in self.series))

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The table's rows, a value of x each."""
        values = {(i, point.x): point for i, series in enumerate(self.series) for point in series.points}
        xs = sorted({x for _, x in values})
        return tuple((self._label(x), *(self._cell(values.get((i, x))) for i in range(len(self.series)))) for x in xs)

    def _label(self, x: float) -> str:
        return self.labels[int(x)] if self.labels else number(x)

    def _cell(self, point: Point | None) -> str:
        form = share if self.is_share else number
        if point is None or point.y is None:
            return NOTHING
        ends = "" if point.low is None or point.high is None else f" ({form(point.low)} to {form(point.high)})"
        return form(point.y) + ends
