"""Timestamps, as Label Studio writes them and as its filters accept them."""

from __future__ import annotations

from datetime import UTC, datetime


def read_moment(value: object) -> datetime | None:
    """A datetime or ISO 8601 string as a UTC time; UTC is assumed without a time zone. None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def filter_value(moment: datetime) -> str:
    """Format a time in the only way that Label Studio's filters accept."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
