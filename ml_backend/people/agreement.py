"""How far people agree on the same pairs: Krippendorff's alpha and pairwise agreement, with intervals.

Legend: P pairs that two or more people judged, K = 3 verdicts, B resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import evalica
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from training.data import Judgement, PairKey, Verdict, pair_of

FEW_PAIRS = 5
"""Below as many shared pairs no interval is told."""
RESAMPLES = 2000
_KINDS = (Verdict.ANSWER1, Verdict.ANSWER2, Verdict.TIE)

Interval = tuple[float, float]
Votes = Mapping[PairKey, Mapping[str, Verdict]]
"""For each pair one verdict a person, all as if the answers had stood as they did for the first of them."""


def votes_on(judgements: Iterable[Judgement]) -> Votes:
    """One vote for each person and pair: whoever judged a pair twice is counted with the newest verdict."""
    found: dict[PairKey, dict[str, Verdict]] = defaultdict(dict)
    left: dict[PairKey, str] = {}
    for judgement in sorted(judgements, key=_age):
        if judgement.verdict in _KINDS:
            pair = pair_of(judgement)
            first = left.setdefault(pair, judgement.answer1.text)
            found[pair][judgement.annotator] = _as_placed(judgement, first)
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far people agree.

    shared: pairs that two or more people judged.
    alpha: Krippendorff's, nominal over left, right and tie; None where all verdicts are the same or none is shared.
    pairwise: of any two people's verdicts on one pair, the share that are equal; a tie equals a tie only.
    comparisons: how many twos of verdicts there are.
    """

    shared: int
    alpha: float | None
    alpha_interval: Interval | None
    pairwise: float | None
    pairwise_interval: Interval | None
    comparisons: int


def agreement_on(votes: Votes, seed: int = 0) -> Agreement:
    """Measure agreement.

    The intervals are percentiles of a bootstrap over pairs, so several votes on one pair are not counted as several
    pairs. Where all verdicts agree, or none do, a bootstrap can't say how sure that is: alpha then has no interval, and
    pairwise agreement the exact one for as many pairs.

    References: Krippendorff 2018, "Content Analysis", chapter 12; Efron & Tibshirani 1993, chapter 8.
    """
    counts = _counts(votes)
    pairs = len(counts)
    if not pairs:
        return Agreement(0, None, None, None, None, 0)
    equal, total = _comparisons(counts)
    pairwise = float(equal.sum() / total.sum())
    alpha_interval, pairwise_interval = None, None
    if pairs >= FEW_PAIRS:
        weights, kinds = _resampled(counts, seed)
        equal_of, total_of = _comparisons(kinds)
        drawn = (weights @ equal_of) / (weights @ total_of)
        if 0 < equal.sum() < total.sum():
            pairwise_interval = _percentiles(drawn)
            alpha_interval = _percentiles(_alphas(weights, kinds))
        else:
            pairwise_interval = exact_interval(pairs if pairwise == 1.0 else 0, pairs)
    return Agreement(pairs, _alpha(counts), alpha_interval, pairwise, pairwise_interval, int(total.sum()))


def pairwise_among(votes: Votes, names: AbstractSet[str]) -> tuple[float | None, int]:
    """Pairwise agreement of some people with each other, and how many pairs two or more of them judged."""
    theirs = {pair: {name: said for name, said in found.items() if name in names} for pair, found in votes.items()}
    counts = _counts(theirs)
    equal, total = _comparisons(counts)
    return (float(equal.sum() / total.sum()) if len(counts) else None), len(counts)


def exact_interval(count: int, total: int) -> Interval | None:
    """Clopper and Pearson's 95% interval of a share; None of nothing."""
    if not total:
        return None
    found = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _counts(votes: Votes) -> NDArray[np.int64]:
    """(P, K): how many people gave each verdict."""
    shared = [[*found.values()] for found in votes.values() if len(found) > 1]
    rows = [[verdicts.count(kind) for kind in _KINDS] for verdicts in shared]
    return np.array(rows, dtype=np.int64).reshape(-1, len(_KINDS))


def _comparisons(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) twos of equal verdicts, and (P,) twos of verdicts."""
    people = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / 2, people * (people - 1) / 2


def _alpha(counts: NDArray[np.int64]) -> float | None:
    """Krippendorff's alpha; who said what doesn't matter for it, so a column is a pair and a row any of its voters."""
    if (counts.sum(axis=0) > 0).sum() < 2:
        return None
    ratings = np.full((int(counts.sum(axis=1).max()), len(counts)), np.nan)
    for column, row in enumerate(counts):
        said = np.repeat(np.arange(len(_KINDS)), row)
        ratings[: len(said), column] = said
    return float(evalica.alpha(pd.DataFrame(ratings), "nominal").alpha)


def _resampled(counts: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each kind of pair is drawn in each resample, (B, kinds); and the kinds' verdicts, (kinds, K).

    Pairs with the same verdicts are alike, so drawing P pairs is drawing how many there are of each kind.
    """
    kinds, number = np.unique(counts, axis=0, return_counts=True)
    pairs = int(number.sum())
    return np.random.default_rng(seed).multinomial(pairs, number / pairs, RESAMPLES), kinds


def _alphas(weights: NDArray[np.int64], kinds: NDArray[np.int64]) -> NDArray[np.float64]:
    """(B,) alpha of each resample; NaN where all verdicts are the same."""
    people = kinds.sum(axis=1)
    observed = weights @ ((people**2 - (kinds**2).sum(axis=1)) / (people - 1))
    said = weights @ kinds
    votes = said.sum(axis=1)
    expected = (votes**2 - (said**2).sum(axis=1)) / (votes - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1.0 - observed / expected, np.nan))


def _percentiles(drawn: NDArray[np.float64]) -> Interval | None:
    known = drawn[~np.isnan(drawn)]
    if len(known) < len(drawn) / 2:
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _age(judgement: Judgement) -> tuple[str, int]:
    return judgement.updated_at or "", judgement.annotation_id or 0


def _as_placed(judgement: Judgement, left: str) -> Verdict:
    """The verdict as if `left` had stood on the left."""
    swapped = {Verdict.ANSWER1: Verdict.ANSWER2, Verdict.ANSWER2: Verdict.ANSWER1, Verdict.TIE: Verdict.TIE}
    return judgement.verdict if judgement.answer1.text == left else swapped[judgement.verdict]
