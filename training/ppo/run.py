"""The state of one PPO run: everything that changes, as checkpoints hold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch

from training.config import PPOConfig
from training.models.policy import PolicyWithValue
from training.ppo.report import PPOPoint


@dataclass(slots=True)
class PPORun:
    """What changes while training; all of it goes into a checkpoint.

    There is no random state in it: every random choice comes from (seed, iteration).
    """

    policy: PolicyWithValue
    optimizer: torch.optim.Optimizer
    kl_coefficient: float
    iteration: int = 0
    score_mean: float = 0.0
    score_std: float = 1.0
    stopped: str | None = None
    curve: list[PPOPoint] = field(default_factory=list)

    @classmethod
    def fresh(cls, base: Any, policy: Any, config: PPOConfig) -> Self:
        """Before the first iteration.

        Args:
            base: the base model (a transformers PreTrainedModel); it is frozen.
            policy: the version to start from (a PreTrainedModel, changed in place), None to start from the base.
            config: hyperparameters.
        """
        model = PolicyWithValue(base, policy, config.trainable_layers)
        rate = config.learning_rate
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, eps=1e-5, weight_decay=0.0, fused=True)
        return cls(model, optimizer, config.kl_coefficient)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "kl_coefficient": self.kl_coefficient,
            "scale": [self.score_mean, self.score_std],
            "stopped": self.stopped,
            "curve": [asdict(point) for point in self.curve],
        }

    def restore(self, iteration: int, state: dict[str, Any]) -> None:
        """Go back to the state after `iteration` iterations."""
        self.iteration = iteration
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kl_coefficient = state["kl_coefficient"]
        self.score_mean, self.score_std = state["scale"]
        self.stopped = state["stopped"]
        self.curve = [PPOPoint(**point) for point in state["curve"]]
