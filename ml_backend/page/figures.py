"""Numbers and times as people read them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from markupsafe import Markup

NOTHING = "–"
"""Stands for a figure that nobody knows."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_COUNTED_DAYS = 14


def share(value: float | None) -> str:
    """A share of 0 to 1 in percent, without decimals; one that isn't quite nothing or everything doesn't look so."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if 0 < value < 0.005:
        return "under 1%"
    if 0.995 <= value < 1:
        return "over 99%"
    return f"{value:.0%}"


def between(interval: Sequence[float] | None) -> str:
    """An interval of shares, for instance `64% to 79%`; nothing where there is none."""
    if interval is None or len(interval) != 2 or any(end is None or not math.isfinite(end) for end in interval):
        return ""
    return f"{interval[0]:.0%} to {interval[1]:.0%}"


def number(value: float | None) -> str:
    """A measured number with two or three significant digits, a whole one as it is, thousands apart."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if float(value).is_integer():
        return f"{value:,.0f}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def span(interval: Sequence[float] | None) -> str:
    """An interval of numbers, for instance `0.21 to 1.40`; nothing where there is none."""
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def count(value: int, one: str, many: str | None = None) -> str:
    """A number of things, for instance `1 judgement`, `1,204 judgements`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def seconds_of(moment: float | str | None) -> float | None:
    """A moment in seconds since 1970, from such seconds or ISO 8601; None if it can't be read."""
    if moment is None or isinstance(moment, int | float):
        return moment
    try:
        read = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def ago(seconds: float, now: float) -> str:
    """How long ago a moment is, in words; a date after two weeks."""
    past = now - seconds
    if past < -_MINUTE:
        return f"on {datetime.fromtimestamp(seconds, UTC):%-d %B %Y, %H:%M} UTC"
    if past < _MINUTE:
        return "just now"
    if past < _HOUR:
        return count(int(past // _MINUTE), "minute") + " ago"
    if past < _DAY:
        return count(int(past // _HOUR), "hour") + " ago"
    if past < _COUNTED_DAYS * _DAY:
        return count(int(past // _DAY), "day") + " ago"
    return f"on {datetime.fromtimestamp(seconds, UTC):%-d %B %Y}"


def when(moment: float | str | None, now: float | None = None) -> Markup:
    """A moment in words, in a `<time>` with ISO 8601 for machines and the exact time as its title."""
    seconds = seconds_of(moment)
    if seconds is None:
        return Markup.escape(NOTHING if moment is None else moment)
    exact = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"),
        f"{exact:%-d %B %Y, %H:%M} UTC",
        ago(seconds, time.time() if now is None else now),
    )
