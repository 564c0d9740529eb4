"""Every number and time on the pages, as people read it."""

from __future__ import annotations

import pytest

from ml_backend.page.figures import ago, between, count, number, seconds_of, share, span, when
from ml_backend.page.paging import part_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.724, "72%"), (0.0, "0%"), (1.0, "100%"), (0.001, "under 1%"), (0.9971, "over 99%"),
        (None, "–"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_shares_are_whole_percents(value: float | None, shown: str) -> None:
    """Nothing that isn't quite nothing or everything looks like it."""
    assert share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.5, "1.50"), (0.193, "0.19"), (23.44, "23.4"), (612.3, "612"), (1204.0, "1,204"), (26, "26"), (-2.25, "-2.25"),
     (None, "–"), (float("inf"), "–")],
)  # fmt: skip
def test_numbers_have_two_or_three_digits(value: float | None, shown: str) -> None:
    """Whole numbers are whole; thousands are apart."""
    assert number(value) == shown


def test_intervals() -> None:
    """Both ends, or nothing at all."""
    assert between([0.634, 0.798]) == "63% to 80%"
    assert between(None) == between([None, None]) == ""  # type: ignore[list-item]
    assert (span([-0.4055, 1.2164]), span(None)) == ("-0.41 to 1.22", "")


def test_counts_agree_with_their_nouns() -> None:
    """One is one, and others are many."""
    assert [count(1, "pair"), count(1204, "pair"), count(0, "person", "people")] == [
        "1 pair",
        "1,204 pairs",
        "0 people",
    ]


@pytest.mark.parametrize(
    ("past_s", "said"),
    [(20, "just now"), (60, "1 minute ago"), (3599, "59 minutes ago"), (7200, "2 hours ago"),
     (86_400 * 3, "3 days ago"), (86_400 * 20, "on 1 September 2026"), (-3600, "on 21 September 2026, 15:13 UTC")],
)  # fmt: skip
def test_times_are_in_words(past_s: float, said: str) -> None:
    """From a minute to two weeks they are counted; later the date says more."""
    now = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
    assert ago(now - past_s, now) == said


def test_a_time_has_its_exact_moment_beside_it() -> None:
    """Machines read ISO 8601, people may point at it; what is no time is shown as it is, and safely."""
    assert when(1_790_000_000.0, 1_790_000_060.0) == (
        '<time datetime="2026-09-21T14:13:20+00:00" title="21 September 2026, 14:13 UTC">1 minute ago</time>'
    )
    assert when("<b>") == "&lt;b&gt;"
    assert when(None) == "–"
    assert seconds_of("2026-09-21T14:13:20") == seconds_of("2026-09-21T16:13:20+02:00") == 1_790_000_000.0


@pytest.mark.parametrize(
    ("asked", "items", "first"),
    [(None, (0, 1, 2), 1), ("3", (6,), 7), ("99", (6,), 7), ("-1", (0, 1, 2), 1), ("²", (0, 1, 2), 1)],
)  # fmt: skip
def test_a_long_list_is_shown_in_parts(asked: str | None, items: tuple[int, ...], first: int) -> None:
    """Seven things, three at a time; whatever is asked for, there is a part."""
    part = part_of(range(7), "things", asked, 3)
    assert (part.items, part.first, part.parts, part.total) == (items, first, 3, 7)


def test_a_part_of_nothing_is_empty() -> None:
    """There is one part, without anything in it."""
    part = part_of([], "things", None, 3)
    assert (part.items, part.number, part.parts, part.last) == ((), 1, 1, 0)
