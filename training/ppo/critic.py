"""What an answer will be worth, before each of its tokens: a linear critic on the reward model's score so far.

With the mean of the other answers as its only baseline, each token of an answer is praised for all the others' merits.
A critic knows how good the answer was so far, so a token answers for what came after it. A value function on the
policy's hidden states would learn that from scratch, and the reward model knows it already: its score of an answer so
far, its length and the other answers' rewards say about half of what the whole will be worth.

Legend: B answers, T tokens of the longest, F features.

References: Stiennon et al. 2020 (2009.01325), section 3.4, whose value function starts from the reward model; Hoerl and
Kennard 1970, "Ridge regression".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from training.sampling import Rollout

_FEATURES = 7
_REMEMBERED = 0.9  # how much of what earlier iterations taught still counts in the next one
_RIDGE = 1.0  # answers that speak for the other answers' mean alone


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


@dataclass(slots=True)
class Critic:
    """Least squares over the answers of earlier iterations, so that no answer has a part in its own prediction.

    Before it has learned anything it predicts the mean reward of the other answers to the same prompt.

    products: (F, F) float64, the features' products, summed over tokens; each answer counts once.
    targets: (F,) float64, likewise their products with the rewards.
    """

    products: Tensor = field(default_factory=lambda: _zeros(_FEATURES, _FEATURES))
    targets: Tensor = field(default_factory=lambda: _zeros(_FEATURES))

    def values(self, features: Tensor) -> Tensor:
        """The expected reward (B, T) float32 before each token, from `features_of`."""
        plain = _zeros(_FEATURES)
        plain[0] = 1.0
        ridge = self.products + _RIDGE * torch.eye(_FEATURES, dtype=torch.float64)
        weights = plain + torch.linalg.solve(ridge, self.targets - self.products @ plain)
        expected: Tensor = features @ weights.to(features.device)
        return expected.float()

    def learn(self, features: Tensor, mask: Tensor, rewards: Tensor) -> None:
        """Take in answers whose rewards (B,) are known; mask (B, T) bool."""
        weights = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1))[mask].double()
        known = features[mask]
        weighed = known * weights[:, None]
        aims = rewards.double()[:, None].expand(mask.shape)[mask]
        self.products = _REMEMBERED * self.products + (weighed.T @ known).cpu()
        self.targets = _REMEMBERED * self.targets + (weighed.T @ aims).cpu()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"products": self.products, "targets": self.targets}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """From a checkpoint."""
        return cls(**state)


def features_of(rollout: Rollout, rewards: Tensor, answers: int, spread: float, tokens: float) -> Tensor:
    """What a critic knows (B, T, F) float64 before each token, and nothing of what follows it.

    Args:
        rollout: B answers, those to the same prompt adjacent.
        rewards: (B,), of whole answers.
        answers: to each prompt, at least 2.
        spread: the unit of rewards, in raw scores.
        tokens: mean length of the base's answers, the unit of lengths.
    """
    shape, device = rollout.answer_mask.shape, rewards.device
    by_prompt = rewards.double().view(-1, answers)
    others = ((by_prompt.sum(dim=1, keepdim=True) - by_prompt) / (answers - 1)).view(-1, 1).expand(shape)
    length = (torch.arange(shape[1], device=device).double() / tokens).expand(shape)
    so_far = rollout.so_far.double() / spread
    parts = others, others * length, torch.ones_like(others), length, (length > 0).double(), so_far, so_far * length
    return torch.stack(parts, dim=-1)
