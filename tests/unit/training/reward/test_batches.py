"""How pairs are dealt to batches: the pairs of one ranking together, all others as chance has it."""

from __future__ import annotations

from itertools import combinations

import torch

from training.data import Preference, split_of
from training.reward.folds import folds_of
from training.reward.run import batches_of


def _rankings(count: int, size: int) -> torch.Tensor:
    """The pairs of `count` rankings of `size` answers each."""
    pairs = [(size * n + a, size * n + b) for n in range(count) for a, b in combinations(range(size), 2)]
    return torch.tensor(pairs)


def test_pairs_that_share_no_answer_are_dealt_by_chance() -> None:
    """Every pair once, in full batches, in the order of one permutation."""
    places = torch.arange(40).view(20, 2)
    batches = batches_of(places, torch.arange(20), 8, seed=3)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert torch.cat(batches).tolist() == torch.randperm(20, generator=torch.Generator().manual_seed(3)).tolist()


def test_the_pairs_of_a_ranking_share_a_batch() -> None:
    """For 3 to 6 answers, whatever the order: 3, 6, 10 and 15 pairs, none of them elsewhere."""
    for size in (3, 4, 5, 6):
        places = _rankings(9, size)
        pairs = size * (size - 1) // 2
        for seed in range(5):
            batches = batches_of(places, torch.arange(len(places)), 16, seed=seed)
            assert sorted(torch.cat(batches).tolist()) == list(range(len(places)))
            for batch in batches:
                rankings = (batch // pairs).tolist()
                assert len(batch) == len(set(rankings)) * pairs <= 16


def test_only_the_given_rows_are_dealt() -> None:
    """What is held out is in no batch, and links nothing."""
    places = torch.tensor([(0, 1), (1, 2), (2, 3), (8, 9)])
    batches = batches_of(places, torch.tensor([0, 2, 3]), 1, seed=0)
    assert sorted(batch.tolist() for batch in batches) == [[0], [2], [3]]


def test_more_than_a_batch_is_divided() -> None:
    """Ten pairs over one answer fill batches of four."""
    places = torch.tensor([(0, other) for other in range(1, 11)])
    assert sorted(len(batch) for batch in batches_of(places, torch.arange(10), 4, seed=0)) == [2, 4, 4]


def test_a_rankings_pairs_share_a_split_and_a_fold() -> None:
    """They have one prompt, and prompts are what is split."""
    answers = ["Leaves.", "Water.", "No idea.", "Hm."]
    pairs = [Preference(f"Tea {n}?", a, b) for n in range(12) for a, b in combinations(answers, 2)]
    parts = folds_of(pairs, 5, seed=0).parts.view(12, 6)
    assert all(len(set(row)) == 1 for row in parts.tolist())
    assert len({split_of(pair.prompt) for pair in pairs[:6]}) == 1
