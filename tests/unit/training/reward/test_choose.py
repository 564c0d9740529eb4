"""Which probes make the ensemble, and which pairs they never see."""

from __future__ import annotations

import torch
from torch import Tensor

from training.models.probe import Site
from training.reward.choose import FittedProbes, fit_ensemble
from training.reward.folds import PROMPTS_TO_SPARE_A_PART, Folds

FAMILIES = [[(Site(0, "mean"),)], [(Site(1, "mean"),)]]


def _folds(pairs: int) -> Folds:
    return Folds(torch.arange(pairs) % 5, torch.arange(pairs), 5, by_prompt=True)


def _fitted(first: Tensor, second: Tensor, p_chosen: Tensor) -> FittedProbes:
    parts = torch.stack([first, second])
    pairs = first.shape[0]
    return fit_ensemble(
        lambda sites, rows: parts[sites[0].depth, rows], FAMILIES, p_chosen, torch.ones(pairs), _folds(pairs)
    )


def test_the_first_family_is_enough_unless_the_mean_of_all_is_better() -> None:
    """What people chose by is in the first family's features, in the second's, or half in each."""
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 200, 4, generator=draw, dtype=torch.float64) / 2
    for weights, families in (((4.0, 0.0), {1}), ((0.0, 4.0), {2}), ((3.0, 3.0), {2})):
        logits = weights[0] * first.sum(dim=1) + weights[1] * second.sum(dim=1)
        found = _fitted(first, second, (logits > 0).float())
        assert {len(member.choices) for member in found.members} == families


def test_a_coin_says_nothing_for_either() -> None:
    """Where there is nothing to learn the scores are small, whichever family is read."""
    draw = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 200, 4, generator=draw, dtype=torch.float64) / 2
    found = _fitted(first, second, (torch.rand(200, generator=draw) < 0.5).float())
    assert float(found.out_of_fold.abs().mean()) < 0.3


def test_what_steers_never_sees_the_judges_pairs() -> None:
    """With enough prompts, other votes on the last part change the judge and nothing else."""
    draw = torch.Generator().manual_seed(2)
    pairs = PROMPTS_TO_SPARE_A_PART
    first, second = torch.randn(2, pairs, 4, generator=draw, dtype=torch.float64) / 2
    votes = (first.sum(dim=1) > 0).float()
    changed = torch.where(_folds(pairs).parts == 4, 1 - votes, votes)
    one, other = _fitted(first, second, votes), _fitted(first, second, changed)
    assert int((~one.steering).sum()) == pairs // 5
    assert len(one.members) == 4
    assert torch.equal(one.out_of_fold, other.out_of_fold)
    for mine, theirs in zip(one.members, other.members, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.weights, theirs.weights, strict=True))
    assert float((one.judges[0].weights[0] * other.judges[0].weights[0]).sum()) < 0  # it learned the opposite


def test_too_few_prompts_spare_no_part() -> None:
    """With one prompt fewer everything steers, and the judge learns from the second half of the parts as well."""
    draw = torch.Generator().manual_seed(3)
    first, second = torch.randn(2, PROMPTS_TO_SPARE_A_PART - 1, 2, generator=draw, dtype=torch.float64)
    found = _fitted(first, second, (first.sum(dim=1) > 0).float())
    assert bool(found.steering.all())
    assert (len(found.members), len(found.judges)) == (5, 1)
