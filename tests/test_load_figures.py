"""The load test's arithmetic."""

from __future__ import annotations

from load.figures import missed, percentile, summary


def test_percentiles_are_values_that_were_measured() -> None:
    """The 99th percentile of 1 to 100 is 99; that of a single value is the value."""
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([7.0], 0.99) == 7.0


def test_broken_promises_and_errors_are_told() -> None:
    """A kind that is too slow, one that wasn't measured, and a refusal."""
    figures = summary([("health", 10.0, ""), ("setup", 250.0, ""), ("setup", 1.0, "503 busy")])
    assert (figures["health_p99_ms"], figures["setup_p99_ms"], figures["errors"]) == (10.0, 250.0, 1)
    assert missed(figures) == [
        "setup: p99 250.0 ms, promised 200 ms",
        "webhook: p99 None ms, promised 100 ms",
        "1 errors",
    ]
    assert missed({**figures, "look_requests": 10, "promotion_requests": 61})[-2] == (
        "promotion requests: 61, promised 60"
    )
