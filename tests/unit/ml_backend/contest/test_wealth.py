"""The betting test of a mean: hand-worked wealth, an independent formulation, and properties."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.contest.wealth import BETS, POOL, bounds, further, log_wealth, log_wealth_path

SCORES = st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 2 / 3, 1.0]), max_size=40)


def _by_brute_force(scores: list[float], mean: float) -> float:
    """Follow each gambler's purse from bet to bet, in exact fractions, and add the purses up at the end."""
    total = Fraction(0)
    for stake, start in zip(BETS, POOL, strict=True):
        purse, share = Fraction(float(start)), Fraction(float(stake))
        for score in scores:
            on_the_table = purse * share
            purse = purse - on_the_table + on_the_table * Fraction(score) / Fraction(mean)
        total += purse
    return float(total)


def test_one_win_gains_the_mean_stake() -> None:
    """Against 1/2 a win doubles what is at stake, (.3 + .8 + 1.2 + 1.2 + 1 + .7 + .9) / 18 of the wealth on average."""
    assert math.exp(log_wealth([1.0])) == pytest.approx(1 + 6.1 / 18)
    assert math.exp(log_wealth([0.0])) == pytest.approx(1 - 6.1 / 18)


def test_nothing_seen_and_ties_leave_the_wealth_as_it_was() -> None:
    """Without an observation the wealth is 1, and a tie against 1/2 neither gains nor loses."""
    assert log_wealth([]) == pytest.approx(0)
    assert log_wealth([1.0, 0.5, 0.5, 1.0]) == pytest.approx(log_wealth([1.0, 1.0]))


@given(SCORES, st.sampled_from([0.125, 0.5, 0.625]))
def test_the_wealth_is_that_of_gamblers_followed_one_by_one(scores: list[float], mean: float) -> None:
    """The sum over logarithms equals purses that are followed bet by bet, in another arithmetic."""
    assert math.exp(log_wealth(scores, mean)) == pytest.approx(_by_brute_force(scores, mean), rel=1e-9)


@given(SCORES)
def test_the_path_ends_at_the_wealth_and_order_does_not_matter(scores: list[float]) -> None:
    """Each point of the path is the wealth of what was seen until then, in whatever order it came."""
    path = log_wealth_path(np.array(scores))
    assert [*path] == pytest.approx([log_wealth(scores[: n + 1][::-1]) for n in range(len(scores))])


@given(SCORES)
def test_no_bet_gains_on_average(scores: list[float]) -> None:
    """Whatever came before, a fair coin's next toss leaves the wealth as it was on average (a martingale)."""
    after = [math.exp(log_wealth([*scores, toss])) for toss in (0.0, 1.0)]
    assert sum(after) / 2 == pytest.approx(math.exp(log_wealth(scores)), rel=1e-9)


@given(SCORES)
def test_bounds_hold_the_share_and_turn_with_the_sides(scores: list[float]) -> None:
    """The bounds enclose the mean, and exchanging both sides mirrors them."""
    low, high = bounds(scores)
    assert 0 <= low <= high <= 1
    if scores:
        assert low <= sum(scores) / len(scores) + 1e-6
        assert high >= sum(scores) / len(scores) - 1e-6
    mirrored = bounds([1 - score for score in scores])
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-5)


def test_the_lower_bound_passes_a_half_when_the_wealth_passes_twenty() -> None:
    """Bounds and test are the same thing: wins alone decide at the first number whose wealth is 20."""
    for wins in range(1, 12):
        decided = _by_brute_force([1.0] * wins, 0.5) >= 20
        assert (bounds([1.0] * wins)[0] > 0.5) is decided
    assert _by_brute_force([1.0] * 8, 0.5) >= 20 > _by_brute_force([1.0] * 7, 0.5)


def test_how_many_more_is_what_repeating_takes() -> None:
    """Wins in 3 of 4 pairs decide after as many pairs as repeating them takes; ties alone never do."""
    scores = [1.0, 1.0, 1.0, 0.0] * 3
    more = further(scores)
    assert more is not None
    enough = next(n for n in range(1, 100) if log_wealth(scores[:4] * n) >= math.log(20))
    assert abs(len(scores) + more - 4 * enough) <= 4
    assert further([0.5] * 20) is None
    assert further([]) is None
    assert further([1.0] * 30) == 0
