"""When a line trains by itself: for enough new judgements or a mended cause, with growing pauses after failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

OUTSIDE = "outside"
"""The cause of a failure when an outside system didn't answer. It is mended as soon as that system answers again."""

_NO_ATTEMPT = {"running", "refused"}
"""These say nothing about how training went."""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier cycle of the line.

    status: `promoted`, `challenger`, `registered`, `rejected`, `failed`, `cancelled`, `refused`, or `running`.
    cause: why it failed: `outside`, or anything else.
    config_digest: of the label configs and settings it worked with; None if it failed before it could read them.
    ended_at: seconds since 1970.
    """

    status: str
    cause: str
    config_digest: str | None
    ended_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a cycle starts now; if not, `why` says what it waits for, and `until` when it may start at the latest."""

    start: bool
    why: str
    until: float | None = None


def decide(
    *,
    new: int,
    needed: int,
    paused: bool,
    past: Sequence[Past],
    config_digest: str | None,
    now: float,
    first_pause_s: float,
    longest_pause_s: float,
) -> Decision:
    """Decide whether a line's cycle starts by itself.

    Failures in a row count for as long as the configuration is the one they had: under another one, the next attempt is
    a first attempt; when an earlier one is back, its failures count again.

    Args:
        new: judgements since the line's last attempt.
        needed: how many of them start a cycle.
        paused: whether a person paused the line.
        past: the line's cycles, the latest first.
        config_digest: of the label configs and settings as they are now.
        now: seconds since 1970.
        first_pause_s: the pause after a first failure; each further one doubles it.
        longest_pause_s: the longest pause.
    """
    if paused:
        return Decision(False, "the line is paused, until `rankloop resume`")
    ended = [cycle for cycle in past if cycle.status not in _NO_ATTEMPT]
    failed = list(takewhile(lambda cycle: cycle.status == "failed", ended))
    failures = [cycle for cycle in failed if not _changed(cycle.config_digest, config_digest)]
    mended = bool(failed) and (failed[0].cause == OUTSIDE or not failures)
    if new < needed and not mended:
        after = " after the failed cycle" if failed else ""
        return Decision(False, f"{needed - new} more judgements{after} ({new} of {needed} are there)")
    if failures:
        pause_s = min(first_pause_s * 2 ** min(len(failures) - 1, 60), longest_pause_s)
        until = failures[0].ended_at + pause_s
        if now < until:
            moment = datetime.fromtimestamp(until).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            cycles = "cycle" if len(failures) == 1 else f"{len(failures)} cycles in a row"
            return Decision(False, f"a pause until {moment}, after {cycles} failed", until)
    return Decision(True, "enough new judgements" if new >= needed else "what made the last cycle fail has changed")


def _changed(before: str | None, now: str | None) -> bool:
    return before is not None and now is not None and before != now
