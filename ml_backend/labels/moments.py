"""Points in time, as Label Studio writes them and as its filters take them."""

from __future__ import annotations

from datetime import UTC, datetime


def read_moment(value: object) -> datetime | None:
    """A time in UTC, from ISO 8601 or a datetime; without a time zone it is taken for UTC. None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def filter_value(moment: datetime) -> str:
    """The one form of a time that Label Studio's filters take."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
