"""Chooses where a probe reads and how strongly it is regularised, by cross-validation within cross-validation.

For every part k a probe is fitted on the other parts, and everything about it is chosen on those alone, so its scores
of part k are what a model would give that never saw them. These probes are the ensemble that is served.

Where there are enough prompts, the last part teaches the judges alone, and nothing that steers the training of a policy
has seen it.

Legend: N pairs, H hidden size, K parts, T deviations tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from training.models import Site
from training.reward.folds import Folds
from training.reward.probe import fit_probes, pair_losses

DEVIATIONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Prior deviations of the score difference of a typical pair, in nats, most regularised first."""
_SEARCH_PAIRS = 1000
"""With more pairs, places and deviations are compared on this many: enough to tell them apart."""
_DIRECTIONS = 256
"""Choices are compared in at most this many principal directions of the features."""

Sites = tuple[Site, ...]
Differences = Callable[[Sites, Tensor], Tensor]
"""Feature differences (n, S * H) float64 of the pairs at rows (n,)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a probe reads, and the deviation of its prior."""

    sites: Sites
    deviation: float


@dataclass(frozen=True, slots=True)
class Member:
    """A probe: the best of the first family, or the mean of the best of each family.

    choices: one of each family that is used.
    weights: a vector over each choice's own sites, divided by the number of choices.
    """

    choices: tuple[Choice, ...]
    weights: tuple[Tensor, ...]

    def scores(self, differences: Differences, rows: Tensor) -> Tensor:
        """Score differences (n,) float64 of the pairs at rows (n,)."""
        parts = zip(self.choices, self.weights, strict=True)
        return torch.stack([differences(choice.sites, rows) @ vector for choice, vector in parts]).sum(dim=0)


@dataclass(frozen=True, slots=True)
class FittedProbes:
    """The ensemble, and what it says of pairs that its members never saw.

    members: K probes, each fitted without one part.
    out_of_fold: (N,) float64 score differences of each pair, by the member that left its part out, or by all members
        where none saw it; 0 if there is only one part.
    inner: (K, N) float64 likewise by models that saw neither part k nor the pair's, with member k's choices.
    judges: fitted on the last part alone where that is set apart, else on the second half of the parts.
    steering: (N,) bool, the pairs that members may learn from: all but those that are set apart for the judges.
    losses: mean out-of-fold loss in nats by choice, over the pairs that steer.
    """

    members: tuple[Member, ...]
    out_of_fold: Tensor
    inner: Tensor
    judges: tuple[Member, ...]
    steering: Tensor
    losses: dict[Choice, float]


def fit_ensemble(
    differences: Differences, families: Sequence[Sequence[Sites]], p_chosen: Tensor, votes: Tensor, folds: Folds
) -> FittedProbes:
    """Choose and fit a probe for every part of the pairs.

    The best of the first family is used, which varies least; averaged with the best of the others where that mean
    predicts held-out choices better. Few pairs can't tell more.

    Args:
        differences: computes the features' differences, scaled so that a typical pair has length 1.
        families: where probes might read, the one that varies least first.
        p_chosen: (N,) shares of votes for the chosen answer.
        votes: (N,) how many people judged each pair; a pair counts as often.
        folds: the parts.
    """
    counts = votes.double() / votes.double().mean()
    steering = ~folds.apart()
    count = int(folds.parts[steering].max()) + 1
    searched = _rows_to_search(steering)
    parts, chosen, weighed = folds.parts[searched], p_chosen[searched], counts[searched]
    inner, single = {}, {}
    for sites in [sites for family in families for sites in family]:
        found = _cross_validate(differences(sites, searched), chosen, weighed, parts, count)
        for place, deviation in enumerate(DEVIATIONS):
            single[Choice(sites, deviation)], inner[Choice(sites, deviation)] = found[0][place], found[1][place]

    def chosen_by(scores: dict[Choice, Tensor], rows: Tensor) -> tuple[Choice, ...]:
        losses = {c: _mean_loss(each[rows], chosen[rows], weighed[rows]) for c, each in scores.items()}
        best = tuple(_best({c: loss for c, loss in losses.items() if c.sites in family}) for family in families)
        mean = torch.stack([scores[choice][rows] for choice in best]).mean(dim=0)
        return best if _mean_loss(mean, chosen[rows], weighed[rows]) < losses[best[0]] else best[:1]

    def fitted(choices: tuple[Choice, ...], kept: Tensor) -> Member:
        vectors = [_fit(differences, choice, p_chosen, counts, kept) / len(choices) for choice in choices]
        return Member(choices, tuple(vectors))

    alone = count == 1  # there is nothing to hold out, so nothing is measured
    members, inside = [], torch.zeros(count, len(searched), dtype=torch.float64)
    out_of_fold = torch.zeros(len(folds.parts), dtype=torch.float64)
    for part in range(count):
        choices = chosen_by({choice: scores[part] for choice, scores in inner.items()}, parts != part)
        members.append(fitted(choices, steering & ((folds.parts != part) | alone)))
        inside[part] = torch.stack([inner[choice][part] for choice in choices]).mean(dim=0)
        rows = (folds.parts == part).nonzero().flatten()
        out_of_fold[rows] = 0.0 if alone else members[-1].scores(differences, rows)
    apart = (~steering).nonzero().flatten()
    out_of_fold[apart] = torch.stack([member.scores(differences, apart) for member in members]).mean(dim=0)
    # With many pairs a member's scores of others' pairs hardly depend on which few it left out.
    nested = out_of_fold.repeat(count, 1)
    if len(searched) == int(steering.sum()):
        nested[:, searched] = inside
    judged = ~steering if len(apart) else folds.parts >= (folds.count + 1) // 2
    everything = torch.ones(len(searched), dtype=torch.bool)
    return FittedProbes(
        members=tuple(members),
        out_of_fold=out_of_fold,
        inner=nested,
        judges=(fitted(chosen_by(single, everything), judged),) if bool(judged.any()) else (),
        steering=steering,
        losses={choice: _mean_loss(scores, chosen, weighed) for choice, scores in single.items()},
    )


def _cross_validate(x: Tensor, p_chosen: Tensor, counts: Tensor, parts: Tensor, folds: int) -> tuple[Tensor, Tensor]:
    """Scores (T, N) of each pair without its own part, and (T, K, N) without part k and its own."""
    without: list[tuple[int, ...]] = [(part,) for part in range(folds)]
    without += combinations(range(folds), 2)
    kept = torch.stack([torch.stack([parts != part for part in left_out]).all(dim=0) for left_out in without], dim=1)
    deviations = torch.tensor(DEVIATIONS, dtype=torch.float64).repeat_interleave(len(without))
    reduced = _principal(x)
    weighed = (counts[:, None] * kept.double()).repeat(1, len(DEVIATIONS))
    scores = reduced @ fit_probes(reduced, p_chosen, weighed, deviations)
    by_fit = scores.T.view(len(DEVIATIONS), len(without), len(x))
    place = {left_out: index for index, left_out in enumerate(without)}
    single = torch.zeros(len(DEVIATIONS), len(x), dtype=torch.float64)
    inner = torch.zeros(len(DEVIATIONS), folds, len(x), dtype=torch.float64)
    for part in range(folds):
        inside = parts == part
        single[:, inside] = by_fit[:, place[(part,)]][:, inside]
        for other in range(folds):
            if other != part:
                inner[:, other, inside] = by_fit[:, place[tuple(sorted((part, other)))]][:, inside]
    return single, inner


def _principal(x: Tensor) -> Tensor:
    """The pairs (N, r) in their principal directions: a ridge solution lies within them, so nothing else is needed."""
    if min(x.shape) == 0:
        return x
    values, vectors = torch.linalg.eigh(x @ x.T)
    kept = (values > 1e-10 * values[-1].clamp(min=1e-30)).nonzero().flatten()[-_DIRECTIONS:]
    reduced: Tensor = vectors[:, kept] * values[kept].sqrt()
    return reduced


def _fit(differences: Differences, choice: Choice, p_chosen: Tensor, counts: Tensor, kept: Tensor) -> Tensor:
    rows = kept.nonzero().flatten()
    x = differences(choice.sites, rows)
    deviation = torch.tensor([choice.deviation], dtype=torch.float64)
    if len(x) >= x.shape[1]:
        return fit_probes(x, p_chosen[rows], counts[rows, None], deviation)[:, 0]
    values, vectors = torch.linalg.eigh(x @ x.T)
    used = values > 1e-10 * values[-1:].clamp(min=1e-30)
    directions = x.T @ (vectors[:, used] / values[used].sqrt())
    weights: Tensor = directions @ fit_probes(x @ directions, p_chosen[rows], counts[rows, None], deviation)[:, 0]
    return weights


def _rows_to_search(steering: Tensor) -> Tensor:
    """The pairs that choices are compared on: all that steer, or evenly spaced ones."""
    rows = steering.nonzero().flatten()
    if len(rows) <= _SEARCH_PAIRS:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, _SEARCH_PAIRS).round().long()]


def _mean_loss(scores: Tensor, p_chosen: Tensor, counts: Tensor) -> float:
    total = float(counts.sum())
    return float((pair_losses(scores, p_chosen) * counts).sum()) / total if total else math.log(2)


def _best(losses: dict[Choice, float]) -> Choice:
    """The choice with the lowest loss; of equal ones the more regularised, then the simpler, which comes first."""
    lowest = min(losses.values())
    equal = [choice for choice, loss in losses.items() if loss <= lowest + 1e-9]
    return min(equal, key=lambda choice: choice.deviation)
