"""How varied answers are: within an answer, across a batch, and between different prompts.

Legend: B answers, T tokens of the longest answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

_REPEATED_TOKENS = 4  # shorter n-grams recur in good text too
_ANSWERS_COMPARED = 64  # 2,016 pairs, which take some milliseconds


def distinct_share(tokens: Tensor, mask: Tensor, length: int) -> float:
    """Distinct n-grams of `length` tokens as a share of all n-grams in a batch, 0 where there are none.

    It falls as answers become alike. `tokens` and `mask` are (B, T), padded on the right.
    """
    if tokens.shape[1] < length:
        return 0.0
    stretches = tokens.unfold(1, length, 1)[mask[:, length - 1 :]]
    return len(torch.unique(stretches, dim=0)) / len(stretches) if len(stretches) else 0.0


def repetition(tokens: Tensor, mask: Tensor) -> float:
    """How much answers repeat themselves: the mean share of an answer's 4-grams that occurred in it before.

    0 is no repetition; an answer of one token over and over is near 1; one of fewer than 4 tokens counts as 0.
    `tokens` and `mask` are (B, T), padded on the right.
    """
    shares = []
    for row, real in zip(tokens.tolist(), mask.sum(dim=1).tolist(), strict=True):
        stretches = [tuple(row[at : at + _REPEATED_TOKENS]) for at in range(real - _REPEATED_TOKENS + 1)]
        shares.append(1 - len(set(stretches)) / len(stretches) if stretches else 0.0)
    return sum(shares) / len(shares) if shares else 0.0


def similarity(answers: Sequence[Sequence[int]]) -> float | None:
    """How alike answers to different prompts are: the mean overlap of their bigrams over all pairs of answers.

    The overlap of two answers is the number of bigrams they share over the number that either has (Jaccard's index): 0
    for nothing in common, 1 for the same. A policy that gives one answer to every prompt is at 1, whatever its answer.

    Args:
        answers: token ids, one answer to each prompt; the first 64 are compared.

    Returns:
        The mean overlap, None for fewer than two answers.
    """
    sets = [_bigrams(row) for row in answers[:_ANSWERS_COMPARED]]
    overlaps = [_overlap(left, right) for place, right in enumerate(sets) for left in sets[:place]]
    return sum(overlaps) / len(overlaps) if overlaps else None


def _bigrams(row: Sequence[int]) -> frozenset[object]:
    """An answer's bigrams; the token itself if it has only one."""
    return frozenset(itertools.pairwise(row)) or frozenset(row)


def _overlap(left: frozenset[object], right: frozenset[object]) -> float:
    either = len(left | right)
    return len(left & right) / either if either else 1.0
