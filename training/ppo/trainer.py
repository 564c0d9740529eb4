"""A training run in memory: its state, and its iterations with learning rate, bounds and KL control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import Preference, PromptRecord
from training.evaluation import OnAnswers
from training.fast import compute_dtype, fuse_gelu, pack_frozen
from training.models import PolicyWithValue, RewardModel, TextCodec, frozen_copies
from training.objectives import adapted_kl_coefficient
from training.ppo.baseline import Baseline
from training.ppo.bounds import check_bounds
from training.ppo.critic import Critic
from training.ppo.dpo import DPOStep
from training.ppo.report import PPOPoint
from training.ppo.step import PPOStep
from training.runs import warmup_then_line
from training.sampling import Reference


@dataclass(frozen=True, slots=True)
class Start:
    """Which policies a run starts from and is compared with (each a transformers PreTrainedModel, or None).

    policy: the version that is trained, None for the base.
    reference: where the KL is measured from, None for the base: the supervised policy where supervised training ran.
    champion: the version that answers people now and that the result must beat, None for the base.
    """

    policy: Any = None
    reference: Any = None
    champion: Any = None


@dataclass(slots=True)
class PPOState:
    """State besides policy and optimizer; no random state, as random choices depend only on (seed, iteration).

    good: the trained weights that an iteration last found within all bounds.
    good_iteration: how many iterations they had been trained for.
    """

    kl_coefficient: float
    good: dict[str, Tensor]
    iteration: int = 0
    good_iteration: int = 0
    baseline: Baseline = field(default_factory=Baseline)
    critic: Critic = field(default_factory=Critic)
    stopped: str | None = None
    curve: list[PPOPoint] = field(default_factory=list)


class PPOTrainer:
    """One run: its state, and its iterations with learning rate, bounds and KL control.

    The trainer freezes and packs copies that share the caller's weights; base, policy and reward model aren't changed.

    Args:
        base: the base model (a transformers PreTrainedModel).
        start: the policies to start from.
        codec: the base's tokenizer and template.
        reward_model: on the same `base`.
        prompts: of all splits; those of the training split are answered.
        config: hyperparameters.
        preferences: what people said, which `dpo` learns from.
    """

    def __init__(
        self,
        base: Any,
        start: Start,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
        preferences: Sequence[Preference] = (),
    ) -> None:
        base, self.reward_model = frozen_copies(base, reward_model)
        self.reward_model.uncertainty_penalty = config.uncertainty_penalty
        lora = config.lora if config.trainable == "lora" else None
        self.policy = PolicyWithValue(base, start.policy, config.trainable_layers, lora)
        self.policy.top.recompute = config.recompute_activations
        self.reference = Reference.on_trunk(self.policy, start.reference)
        self._speed_up(config)
        rates = {self.policy.top: config.learning_rate, self.policy.value_head: config.value_learning_rate}
        groups = [
            {"params": [value for value in part.parameters() if value.requires_grad], "lr": rate}
            for part, rate in rates.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, eps=1e-5, weight_decay=0.0, fused=True)
        self._rates = list(rates.values())
        self.state = PPOState(config.kl_coefficient, self._weights())
        self.config = config
        inputs = (self.policy, self.reference, self.optimizer, codec, self.reward_model, prompts, config)
        self._step = DPOStep(*inputs, preferences) if config.algorithm == "dpo" else PPOStep(*inputs)

    def measure_baseline(self, on_answers: OnAnswers | None = None) -> None:
        """Measure what rewards start from: once, before the first iteration. `on_answers` as in `train_ppo`."""
        self.state.baseline = self._step.measure_baseline(on_answers)

    def iterate(self) -> PPOPoint:
        """Run one iteration: set its learning rate, check its outcome, adapt the KL coefficient for the next.

        Raises:
            DivergedError: a bound is exceeded, or a number is NaN or infinite.
        """
        state, config, before = self.state, self.config, self._weights()
        factor = warmup_then_line(state.iteration, config.iterations, config.warmup_share)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        point = self._step.take(state.iteration, state.kl_coefficient, state.baseline, state.critic)
        check_bounds(point, state.baseline, config)
        state.good, state.good_iteration = before, state.iteration  # the policy that this iteration measured
        if config.adaptive_kl:
            adapted = adapted_kl_coefficient(
                state.kl_coefficient,
                point.kl_nats,
                target_nats=config.target_kl(state.baseline.answer_tokens),
                sequences=config.prompts_per_iteration * config.answers,
                horizon_sequences=config.kl_horizon_sequences * config.answers,
            )
            # Below this, nothing would pull back a policy that drifts without gaining anything.
            state.kl_coefficient = max(adapted, config.kl_coefficient)
        state.curve.append(point)
        state.iteration += 1
        return point

    def go_back(self, reason: str) -> None:
        """Return to the last policy that was within all bounds, and stop."""
        state = self.state
        self.policy.learn(state.good)
        state.stopped = (
            f"After iteration {state.iteration}: {reason} The policy after iteration {state.good_iteration} is kept."
        )
        state.iteration = state.good_iteration

    def checkpoint(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        state = self.state
        return {
            "policy": self.policy.learned(),
            "optimizer": self.optimizer.state_dict(),
            "kl_coefficient": state.kl_coefficient,
            "iteration": state.iteration,
            "good": state.good,
            "good_iteration": state.good_iteration,
            "baseline": state.baseline.state(),
            "critic": state.critic.state(),
            "stopped": state.stopped,
            "curve": [asdict(point) for point in state.curve],
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.policy.learn(checkpoint["policy"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        device = self.policy.base.device
        self.state = PPOState(
            checkpoint["kl_coefficient"],
            {name: value.to(device) for name, value in checkpoint["good"].items()},
            checkpoint["iteration"],
            checkpoint["good_iteration"],
            Baseline.restored(checkpoint["baseline"]),
            Critic.restored(checkpoint["critic"]),
            checkpoint["stopped"],
            [PPOPoint(**point) for point in checkpoint["curve"]],
        )

    def _weights(self) -> dict[str, Tensor]:
        """A copy of what is trained."""
        return {name: value.detach().clone() for name, value in self.policy.learned().items()}

    def _speed_up(self, config: PPOConfig) -> None:
        """Where products are in bfloat16, fuse GPT-2's GELU into one kernel and pack the frozen layers."""
        base = self.policy.base
        if compute_dtype(base.device, config.precision, base.hidden_size) == torch.float32:
            return
        for model in (base.model, self.policy, self.reward_model, self.reference.top):
            if model is not None:
                fuse_gelu(model)
        for blocks in (base.blocks, self.reward_model.top.blocks):
            pack_frozen(blocks)
