"""When a line trains by itself, on a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.lines.patience import OUTSIDE, Decision, Past, decide

FIRST_S, LONGEST_S = 300.0, 3600.0
NEEDED = 10


def _decide(*past: Past, new: int = 0, paused: bool = False, digest: str | None = "a", now: float = 0.0) -> Decision:
    return decide(
        new=new,
        needed=NEEDED,
        paused=paused,
        past=past,
        config_digest=digest,
        now=now,
        first_pause_s=FIRST_S,
        longest_pause_s=LONGEST_S,
    )


def _failed(at: float = 0.0, cause: str = "DataError", digest: str | None = "a") -> Past:
    return Past("failed", cause, digest, at)


def test_enough_new_judgements_start_a_cycle() -> None:
    """The tenth does; before that it says how many are missing."""
    assert _decide(new=10).start
    assert _decide(new=9) == Decision(False, "1 more judgements (9 of 10 are there)")


def test_a_paused_line_waits_for_a_person() -> None:
    """However many judgements there are."""
    decision = _decide(new=1000, paused=True)
    assert not decision.start
    assert "rankloop resume" in decision.why


def test_a_failed_cycle_is_not_repeated_for_nothing() -> None:
    """Neither a second nor a year later, without new judgements."""
    for now in (1.0, 3.2e7):
        assert not _decide(_failed(), new=9, now=now).start


def test_pauses_double_up_to_the_longest() -> None:
    """300, 600, 1200, 2400 and then 3600 seconds after the last failure."""
    for failures, pause_s in ((1, 300.0), (2, 600.0), (3, 1200.0), (4, 2400.0), (5, 3600.0), (99, 3600.0)):
        past = [_failed(1000.0)] + [_failed(0.0)] * (failures - 1)
        early = _decide(*past, new=10, now=1000.0 + pause_s - 1)
        assert (early.start, early.until) == (False, 1000.0 + pause_s)
        assert _decide(*past, new=10, now=1000.0 + pause_s).start


@pytest.mark.parametrize("status", ["promoted", "rejected", "registered", "cancelled"])
def test_a_cycle_that_ended_otherwise_ends_the_pauses(status: str) -> None:
    """Only failures in a row count, whatever was refused in between."""
    assert _decide(Past(status, "", "a", 0.0), _failed(), _failed(), new=10).start
    refused = Past("refused", "", None, 0.0)
    assert _decide(refused, _failed(), new=10, now=1.0).until == FIRST_S


def test_a_changed_configuration_is_a_reason_to_try_again() -> None:
    """At once and without new judgements, as the earlier failures were another matter; once, until it changes again."""
    assert _decide(_failed(), _failed(), digest="b", now=1.0).start
    again = [_failed(2.0, digest="b"), _failed(), _failed()]  # the newest one under the new configuration
    assert not _decide(*again, digest="b", now=1e6).start
    assert _decide(*again, digest="b", new=10, now=2.0 + FIRST_S).start


def test_a_configuration_that_comes_and_goes_is_no_reason_for_ever() -> None:
    """Two configurations in turn: each has its one attempt without new judgements, and then its own pauses."""
    past = [_failed(2.0, digest="b"), _failed(1.0, digest="a")]
    for digest, last in (("a", 1.0), ("b", 2.0)):
        assert not _decide(*past, digest=digest, now=1e6).start
        assert _decide(*past, digest=digest, new=10, now=3.0).until == last + FIRST_S


def test_an_outside_system_that_answers_again_is_a_reason_to_try_again() -> None:
    """Without new judgements, but with growing pauses: it may answer looks and still fail cycles."""
    assert _decide(_failed(cause=OUTSIDE), now=FIRST_S - 1).until == FIRST_S
    assert _decide(_failed(cause=OUTSIDE), now=FIRST_S).start
    assert not _decide(_failed(500.0, OUTSIDE), _failed(0.0, OUTSIDE), now=500.0 + FIRST_S).start


def test_what_is_unknown_is_no_change() -> None:
    """A cycle that failed before it could read its configuration, or one that can't be read now."""
    assert not _decide(_failed(digest=None), digest="b", now=1e6).start
    assert not _decide(_failed(), digest=None, now=1e6).start


@dataclass
class _Line:
    """A line whose cycles all fail, looked at again and again."""

    cause: str
    now: float = 0.0
    new: int = 0
    digest: str = "a"
    past: list[Past] = field(default_factory=list)
    started: list[tuple[float, int, str]] = field(default_factory=list)

    def look(self) -> None:
        if _decide(*self.past, new=self.new, digest=self.digest, now=self.now).start:
            self.started.append((self.now, self.new, self.digest))
            self.past.insert(0, _failed(self.now, self.cause, self.digest))
            self.new = 0


_EVENTS = st.lists(
    st.tuples(st.sampled_from(["judge", "wait", "change", "look"]), st.integers(1, 500)), min_size=50, max_size=400
)


@given(_EVENTS, st.sampled_from([OUTSIDE, "DataError", "CrashError"]))
def test_nothing_runs_in_circles(events: list[Any], cause: str) -> None:
    """Whatever happens, a cycle that always fails is started again only with a reason, and pauses grow: after the last
    start with the same configuration there is a pause as long as all failures with it ask for, and unless an outside
    system was the cause, as many new judgements as a first cycle needs.
    """
    line = _Line(cause)
    for event, number in events:
        if event == "judge":
            line.new += number % 7
        elif event == "wait":
            line.now += number
        elif event == "change":
            line.digest = "abc"[number % 3]
        line.look()
    earlier: dict[str, list[float]] = {}
    for at, new, digest in line.started:
        same = earlier.setdefault(digest, [])
        if same:
            assert at - same[-1] >= min(FIRST_S * 2 ** (len(same) - 1), LONGEST_S)
            assert cause == OUTSIDE or new >= NEEDED
        same.append(at)


def test_a_fault_that_lasts_a_week_costs_few_cycles() -> None:
    """Looked at every four seconds for a week, with a judgement a minute: as many cycles as the pauses allow."""
    line = _Line("DataError")
    while line.now < 7 * 24 * 3600:
        line.now += 4
        line.new += int(line.now % 60 < 4)
        line.look()
    most = 5 + 7 * 24 * 3600 / LONGEST_S
    assert 100 < len(line.started) <= most
