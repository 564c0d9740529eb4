"""How varied answers are, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.evaluation.variety import distinct_share, repetition, similarity


def test_distinct_share_counts_stretches_of_real_tokens() -> None:
    """1-2, 2-1, 1-2 and 1-2 are four bigrams, two distinct, over six tokens of two kinds; padding isn't counted."""
    tokens = torch.tensor([[1, 2, 1, 2], [1, 2, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    assert distinct_share(tokens, mask, 2) == 0.5
    assert distinct_share(tokens, mask, 1) == pytest.approx(2 / 6)
    assert distinct_share(tokens, mask, 3) == 1.0
    assert distinct_share(tokens[:, :1], mask[:, :1], 2) == 0.0


def test_repetition_counts_what_an_answer_had_before() -> None:
    """One token eight times has five equal 4-grams; distinct tokens don't repeat, and neither do short answers."""
    tokens = torch.tensor([[7] * 8, list(range(8)), [7, 7, 7, 7, 0, 0, 0, 0], [7] * 8])
    mask = torch.ones(4, 8, dtype=torch.bool)
    mask[2, 3:] = False
    for row, expected in enumerate([0.8, 0.0, 0.0, 0.8]):
        assert repetition(tokens[row : row + 1], mask[row : row + 1]) == pytest.approx(expected)
    assert repetition(tokens, mask) == pytest.approx(0.4)
    assert repetition(tokens[:0], mask[:0]) == 0.0


def test_similarity_is_the_overlap_of_bigrams() -> None:
    """1-2-3 and 1-2-4 share one of three bigrams, the third answer shares none with either: a ninth on average."""
    assert similarity([[1, 2, 3], [1, 2, 4], [7, 8, 9]]) == pytest.approx(1 / 9)


def test_one_answer_to_every_prompt_is_as_alike_as_can_be() -> None:
    """The same answer throughout is at 1, even of a single token, and no answers say nothing."""
    assert similarity([[5, 6, 7]] * 10) == 1.0
    assert similarity([[5]] * 10) == 1.0
    assert similarity([[]] * 3) == 1.0
    assert similarity([[5], [6]]) == 0.0
    assert similarity([[5, 6]]) is None
