"""A policy so small that all its answers can be enumerated, and expectations are sums."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

VOCABULARY, LENGTH = 3, 3
ANSWERS = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))  # all 27
ALL_REAL = torch.ones(len(ANSWERS), LENGTH, dtype=torch.bool)


def tiny_policy(seed: int = 0) -> Tensor:
    """Logits (previous token or start, next token) of a policy that looks one token back."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY + 1, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()


def answer_logprobs(policy: Tensor) -> Tensor:
    """Log-prob (27, 3) of each token of each answer."""
    before = torch.cat([torch.full((len(ANSWERS), 1), VOCABULARY), ANSWERS[:, :-1]], dim=1)
    return policy.log_softmax(dim=-1)[before, ANSWERS]


def answer_rewards() -> Tensor:
    """A reward (27,) for each answer, around 3 with deviation 1."""
    return torch.randn(len(ANSWERS), generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 3.0
