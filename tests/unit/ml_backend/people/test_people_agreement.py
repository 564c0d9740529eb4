"""Agreement against tables worked out by hand, and a published example."""

from __future__ import annotations

import random

import numpy as np
import pytest
from people_votes import swapped, vote, votes
from scipy.stats import binomtest

from ml_backend.people import agreement as module
from ml_backend.people.agreement import agreement_on, exact_interval, votes_on
from training.data.types import Judgement

# Four pairs. Of the verdicts on each, (votes² - sum of squares) / (votes - 1) disagree: 0, 2, 0 and 2, so 4 in all.
# There are 10 votes: 6 left, 3 right, 1 tie, and (100 - 36 - 9 - 1) / 9 = 6 would disagree by chance: alpha is 1 - 4/6.
# Of the twos of votes 3 of 3, 0 of 1, 1 of 1 and 1 of 3 are equal: 5 of 8.
TABLE = [*votes("x", "ll-t"), *votes("y", "lrrl"), *votes("z", "l-rl")]


def test_a_table_worked_out_by_hand() -> None:
    """Three people, four pairs, a tie, and not everybody judged everything."""
    found = agreement_on(votes_on(TABLE))
    assert found.alpha == pytest.approx(1 / 3)
    assert found.pairwise == pytest.approx(5 / 8)
    assert (found.shared, found.comparisons) == (4, 8)
    assert (found.alpha_interval, found.pairwise_interval) == (None, None)  # of too few pairs


def test_a_published_example() -> None:
    """Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), two observers of ten units, printed as 0.095.

    The coincidence matrix is worked out here from the definition: alpha = 1 - (n - 1) o01 / (n0 n1).
    """
    jon, han = "0100000010", "1110010000"
    said = str.maketrans("01", "lr")
    found = agreement_on(votes_on([*votes("jon", jon.translate(said)), *votes("han", han.translate(said))]))
    unequal = sum(one != other for one, other in zip(jon, han, strict=True))
    zeros, ones = (jon + han).count("0"), (jon + han).count("1")
    assert found.alpha == pytest.approx(1 - (20 - 1) * unequal / (zeros * ones))
    assert found.alpha == pytest.approx(0.095, abs=5e-4)
    assert found.pairwise == pytest.approx(0.6)


def test_sides_do_not_matter() -> None:
    """Who saw the answers the other way round than the first who judged them, and prefers the same text, agrees."""
    changed = [swapped(one) if one.annotator == "z" else one for one in TABLE]
    assert agreement_on(votes_on(changed)) == agreement_on(votes_on(TABLE))


def test_a_person_has_one_vote_on_a_pair() -> None:
    """Of several verdicts of one person the newest counts, so nobody agrees or disagrees with themself here."""
    once = [vote("x", 1, "l"), vote("y", 1, "r")]
    again = [vote("x", 1, "r")]
    assert agreement_on(votes_on(once)).pairwise == 0.0
    assert agreement_on(votes_on([*again, *once])).pairwise == 1.0
    assert agreement_on(votes_on([*once[:1], *again])).shared == 0


@pytest.mark.parametrize(
    ("judgements", "pairwise"),
    [([], None), (votes("x", "lrlrl"), None), ([*votes("x", "tttttt"), *votes("y", "tttttt")], 1.0)],
    ids=["nobody", "one person", "all ties"],
)
def test_where_there_is_too_little_nothing_is_claimed(judgements: list[Judgement], pairwise: float | None) -> None:
    """Alpha compares with chance, which can't be told from verdicts that are all the same."""
    found = agreement_on(votes_on(judgements))
    assert (found.alpha, found.alpha_interval, found.pairwise) == (None, None, pairwise)


def test_perfect_agreement_is_as_sure_as_there_are_pairs() -> None:
    """Ten pairs without a disagreement: the exact interval for ten of ten, by hand 0.025^(1/10); alpha has none."""
    found = agreement_on(votes_on([*votes("x", "lrlrlrlrlr"), *votes("y", "lrlrlrlrlr")]))
    assert (found.alpha, found.pairwise, found.alpha_interval) == (1.0, 1.0, None)
    assert found.pairwise_interval == pytest.approx((0.025**0.1, 1.0))


def test_several_votes_on_a_pair_are_not_several_pairs() -> None:
    """A hundred pairs, judged alike four times in five: an interval as of a hundred. 28 times as many comparisons on
    the same pairs don't make it that much narrower.
    """
    rng = random.Random(1)
    alike = [rng.random() < 0.8 for _ in range(100)]
    few, many = [], []
    for place, same in enumerate(alike):
        few += [vote("a", place, "lr"[place % 2]), vote("b", place, "lr"[(place + (not same)) % 2])]
        many += [vote(f"p{number}", place, "lr"[place % 2] if same else "lr"[number % 2]) for number in range(8)]
    share = sum(alike) / 100
    normal = 1.96 * (share * (1 - share) / 100) ** 0.5
    found = agreement_on(votes_on(few))
    assert found.pairwise == pytest.approx(share)
    assert found.pairwise_interval == pytest.approx((share - normal, share + normal), abs=0.02)
    assert found.alpha is not None
    assert found.alpha_interval is not None
    assert found.alpha_interval[0] < found.alpha < found.alpha_interval[1]
    crowded = agreement_on(votes_on(many))
    assert crowded.comparisons == 2800
    assert crowded.pairwise_interval is not None
    # eight votes on a split pair agree 12 times in 28, so shares vary by 4/7 of what they do with two votes
    assert crowded.pairwise_interval[1] - crowded.pairwise_interval[0] == pytest.approx(2 * normal * 4 / 7, rel=0.15)


def test_the_resampled_alpha_is_the_library_s() -> None:
    """On random tables with gaps, the formula that the bootstrap uses gives what evalica computes."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        counts = rng.integers(0, 4, size=(6, 3))
        counts = counts[counts.sum(axis=1) > 1]
        (own,) = module._alphas(np.ones((1, len(counts)), dtype=np.int64), counts)
        assert own == pytest.approx(module._alpha(counts))


def test_the_exact_interval_is_the_one_that_tests_invert_to() -> None:
    """Clopper and Pearson's: at its ends, a one-sided test has a p value of 2.5%."""
    assert exact_interval(0, 0) is None
    low, high = exact_interval(7, 20) or (0.0, 0.0)
    assert binomtest(7, 20, low, alternative="greater").pvalue == pytest.approx(0.025)
    assert binomtest(7, 20, high, alternative="less").pvalue == pytest.approx(0.025)
