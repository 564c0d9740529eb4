"""The charts of a line's page: its versions, and the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ml_backend.page.charts.chart import Chart, Point, Series
from ml_backend.page.figures import share
from ml_backend.page.line_view import VersionRow
from ml_backend.page.opinions import Document

VERSIONS_DRAWN = 20
"""The newest versions; more don't fit."""


def versions_chart(rows: Sequence[VersionRow]) -> Chart | None:
    """Accuracy, agreement and preference over a line's versions; None if none was measured. Rows are newest first."""
    shown = [row for row in reversed(rows) if row.accuracy is not None or row.preferred is not None][-VERSIONS_DRAWN:]
    if not shown:
        return None
    accuracy = [_with_ends(i, row.accuracy, row.accuracy_interval) for i, row in enumerate(shown)]
    agreement = [Point(i, row.agreement) for i, row in enumerate(shown)]
    preferred = [_with_ends(i, row.preferred, row.preferred_interval) for i, row in enumerate(shown)]
    every = {
        "accuracy of the reward model": accuracy,
        "agreement of two people": agreement,
        "preferred to the base": preferred,
    }
    series = tuple(
        Series(name, tuple(points)) for name, points in every.items() if any(point.y is not None for point in points)
    )
    newest = next((row for row in reversed(shown) if row.accuracy is not None), None)
    said = f"The newest version's reward model ranks {share(newest.accuracy)} of pairs correctly." if newest else ""
    names = tuple(f"v{row.number}" for row in shown)
    title = "From version to version"
    return Chart("versions", title, "version", "share of pairs", said or title, series, is_share=True, labels=names)


def leaderboard_chart(leaderboard: Document | None) -> Chart | None:
    """Strengths of a line's versions, with their intervals; None if there are none."""
    entries = [entry for entry in (leaderboard or {}).get("versions", ()) if entry["strength"] is not None]
    if not entries:
        return None
    shown = list(reversed(entries[:VERSIONS_DRAWN]))
    plain = tuple(_with_ends(i, entry["strength"], entry["interval"]) for i, entry in enumerate(shown))
    adjusted = tuple(
        _with_ends(i, entry["length_adjusted"], entry["length_adjusted_interval"]) for i, entry in enumerate(shown)
    )
    series = [Series("strength", plain, is_marked=True)]
    if any(point.y is not None for point in adjusted):
        series.append(Series("adjusted for length", adjusted, is_marked=True))
    names = tuple(str(entry["version"]) for entry in shown)
    said = f"{names[-1]} is first."
    return Chart(
        "leaderboard", "Strengths by people's verdicts", "version", "log-odds over the base", said, tuple(series),
        labels=names, is_lying=True,
    )  # fmt: skip


def _with_ends(x: float, y: float | None, ends: Sequence[float] | None) -> Point:
    if y is None or not math.isfinite(y):
        return Point(x, None)
    if ends is None or not all(math.isfinite(end) for end in ends):
        return Point(x, y)
    return Point(x, y, ends[0], ends[1])
