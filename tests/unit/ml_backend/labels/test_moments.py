"""Timestamps: one way to read them, one format for Label Studio's filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ml_backend.labels.export import filter_value, read_moment

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-01-02T12:00:00Z", NOON),
        ("2026-01-02T14:00:00.5+02:00", NOON + timedelta(seconds=0.5)),
        ("2026-01-02T12:00:00", NOON),
        (datetime(2026, 1, 2, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1767355200, None),
        (None, None),
    ],
)
def test_a_time_is_read_in_utc_or_not_at_all(value: object, moment: datetime | None) -> None:
    """Strings and datetimes are read, with any offset or none; anything out of range or not a time is None."""
    assert read_moment(value) == moment


def test_filters_take_one_form() -> None:
    """The format is UTC with microseconds and a Z, whatever the offset was."""
    there = NOON.astimezone(timezone(timedelta(hours=-5)))
    assert filter_value(there) == filter_value(NOON) == "2026-01-02T12:00:00.000000Z"
