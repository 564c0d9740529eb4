"""Error and power of contests that are looked at after each pair, as docs/contest.md states them."""

from __future__ import annotations

import random

import pytest

from ml_backend.contest.simulation import simulate

LIMIT = 300


@pytest.mark.parametrize("ties", [0.0, 0.1, 0.4])
def test_an_equal_challenger_is_promoted_at_most_one_time_in_twenty(ties: float) -> None:
    """At most 5% go either way by mistake, looked at after each of 1,000 pairs, up to what 4,000 contests can tell (two
    standard deviations are 0.7%); with the usual ties and limit they are fewer than 5% of 1,000.
    """
    found = simulate(0.5, ties=ties, most_pairs=1000, repetitions=4000)
    assert found.promoted <= 0.057
    assert found.worse <= 0.057
    usual = simulate(0.5, most_pairs=LIMIT)
    assert max(usual.promoted, usual.worse) <= 0.05


def test_a_better_challenger_is_found_within_the_pairs_stated() -> None:
    """A true share of 65% is found in at least 90% of 1,000 contests within 150 pairs, nearly always within 300."""
    assert simulate(0.65, most_pairs=150).promoted >= 0.90
    found = simulate(0.65, most_pairs=LIMIT)
    assert found.promoted >= 0.98
    assert found.ninth_decile is not None
    assert found.ninth_decile <= 150


def test_both_directions_are_equally_sensitive() -> None:
    """A worse challenger is rejected as soon as a better one is promoted."""
    better, worse = simulate(0.7, most_pairs=LIMIT, seed=1), simulate(0.3, most_pairs=LIMIT, seed=2)
    assert better.promoted == pytest.approx(worse.worse, abs=0.02)
    assert worse.promoted <= 0.005


def test_purses_followed_toss_by_toss_find_the_same_errors() -> None:
    """Gamblers written down separately, with dice of their own, are wrong and right about as often."""
    stakes, starts = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9), (3, 4, 4, 3, 2, 1, 1)

    def promotes(share: float, dice: random.Random) -> bool:
        purses = [start / 18 for start in starts]
        for _ in range(LIMIT):
            toss = dice.random()
            gain = 1 if toss < share - 0.05 else 0 if toss < share + 0.05 else -1
            purses = [purse * (1 + gain * stake) for purse, stake in zip(purses, stakes, strict=True)]
            if sum(purses) >= 20:
                return True
        return False

    dice = random.Random(5)
    for share in (0.5, 0.6):
        alone = sum(promotes(share, dice) for _ in range(1000)) / 1000
        assert alone == pytest.approx(simulate(share, most_pairs=LIMIT).promoted, abs=0.05)


def test_impossible_verdicts_are_refused() -> None:
    """A share of 95% leaves no room for 20% ties."""
    with pytest.raises(ValueError, match="no verdicts"):
        simulate(0.95, ties=0.2)
