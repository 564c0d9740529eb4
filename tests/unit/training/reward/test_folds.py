"""Parts for cross-validation: whole prompts where there are enough of them, else pairs."""

from __future__ import annotations

from training.data.types import Preference
from training.reward.folds import folds_of


def _pairs(prompts: int, each: int) -> list[Preference]:
    return [Preference(f"What is {n}?", f"tea {n} {k}", f"egg {n} {k}") for n in range(prompts) for k in range(each)]


def test_a_prompts_pairs_share_a_part() -> None:
    """20 prompts with 3 pairs each make 5 parts of 12, and no prompt is in two, in whatever order they come."""
    pairs = _pairs(20, 3)
    folds = folds_of(pairs, 5, seed=0)
    assert folds.by_prompt
    assert folds.parts.bincount().tolist() == [12] * 5
    for n in range(20):
        assert len(set(folds.parts[3 * n : 3 * n + 3].tolist())) == 1
    assert folds_of(pairs[::-1], 5, seed=0).parts.flip(0).equal(folds.parts)
    assert not folds_of(pairs, 5, seed=1).parts.equal(folds.parts)


def test_few_prompts_are_split_by_pair() -> None:
    """One prompt's pairs are dealt one by one, but the same two answers stay together, whichever won."""
    pairs = [*_pairs(1, 9), Preference("What is 0?", "egg 0 3", "tea 0 3")]
    folds = folds_of(pairs, 5, seed=0)
    assert not folds.by_prompt
    assert folds.count == 5
    assert folds.parts[3] == folds.parts[9]


def test_fewer_pairs_than_parts() -> None:
    """Three different pairs make three parts; equal pairs make one."""
    assert folds_of(_pairs(1, 3), 5, seed=0).count == 3
    assert folds_of(_pairs(1, 1) * 4, 5, seed=0).count == 1
