"""The PPO training loop: iterations (`training/ppo/step.py`) with checkpoints, until done or diverged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.atomic import atomic_folder
from training.config import PPOConfig
from training.data import PromptRecord
from training.errors import DivergedError
from training.evaluation import OnAnswers, evaluate_policy
from training.fast import compute_dtype, fuse_gelu, pack_frozen
from training.models import PolicyWithValue, RewardModel, TextCodec, frozen_copies
from training.objectives import adapted_kl_coefficient
from training.ppo.inputs import check_inputs, held_out_prompts, inputs_digest, seed_of
from training.ppo.report import PPOPoint, PPOReport
from training.ppo.step import PPOStep, Scale
from training.runs import Checkpoints, warmup_then_line

OnPoint = Callable[[PPOPoint, int], None]
"""Called after every iteration with the new point of the curve and the total number of iterations."""


@dataclass(slots=True)
class PPOState:
    """State besides policy and optimizer; no random state, as random choices depend only on (seed, iteration)."""

    kl_coefficient: float
    iteration: int = 0
    scale: Scale = field(default_factory=Scale)
    stopped: str | None = None
    curve: list[PPOPoint] = field(default_factory=list)


class PPOTrainer:
    """One run: its state, and its iterations with learning rate, checks and KL control.

    The trainer freezes and packs copies that share the caller's weights; base, policy and reward model aren't changed.

    Args:
        base: the base model (a transformers PreTrainedModel), the reference.
        policy: the version to start from (a PreTrainedModel), None to start from the base.
        codec: the base's tokenizer and template.
        reward_model: on the same `base`.
        prompts: of all splits; those of the training split are answered.
        config: hyperparameters.
    """

    def __init__(
        self,
        base: Any,
        policy: Any,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
    ) -> None:
        base, self.reward_model = frozen_copies(base, reward_model)
        self.reward_model.uncertainty_penalty = config.uncertainty_penalty
        lora = config.lora if config.trainable == "lora" else None
        self.policy = PolicyWithValue(base, policy, config.trainable_layers, lora)
        self.policy.top.recompute = config.recompute_activations
        self._speed_up(config)
        learned = [value for value in self.policy.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=config.learning_rate, eps=1e-5, weight_decay=0.0, fused=True)
        self.state = PPOState(config.kl_coefficient)
        self.config = config
        self._step = PPOStep(self.policy, self.optimizer, codec, self.reward_model, prompts, config)

    def measure_scale(self) -> None:
        """Set the scale of rewards by the base's own answers: once, before the first iteration."""
        self.state.scale = self._step.scale()

    def iterate(self) -> PPOPoint:
        """Run one iteration: set its learning rate, check its outcome, adapt the KL coefficient for the next.

        Raises:
            DivergedError: KL or repetition exceeds its limit, or a number is NaN or infinite.
        """
        state, config = self.state, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_then_line(
                state.iteration, config.iterations, config.warmup_share
            )
        point = self._step.take(state.iteration, state.kl_coefficient, state.scale)
        _check(point, config)
        if config.adaptive_kl:
            state.kl_coefficient = adapted_kl_coefficient(
                state.kl_coefficient,
                point.kl_nats,
                target_nats=config.target_kl_nats,
                sequences=config.prompts_per_iteration * config.answers_per_prompt,
                horizon_sequences=config.kl_horizon_sequences,
            )
        state.curve.append(point)
        state.iteration += 1
        return point

    def checkpoint(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "policy": self.policy.learned(),
            "optimizer": self.optimizer.state_dict(),
            "kl_coefficient": self.state.kl_coefficient,
            "scale": [self.state.scale.mean, self.state.scale.deviation],
            "stopped": self.state.stopped,
            "curve": [asdict(point) for point in self.state.curve],
        }

    def restore(self, iteration: int, checkpoint: dict[str, Any]) -> None:
        """Go back to the state after `iteration` iterations."""
        self.policy.learn(checkpoint["policy"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.state = PPOState(
            checkpoint["kl_coefficient"],
            iteration,
            Scale(*checkpoint["scale"]),
            checkpoint["stopped"],
            [PPOPoint(**point) for point in checkpoint["curve"]],
        )

    def _speed_up(self, config: PPOConfig) -> None:
        """Where products are in bfloat16, fuse GPT-2's GELU into one kernel and pack the frozen layers."""
        base = self.policy.base
        if compute_dtype(base.device, config.precision, base.hidden_size) == torch.float32:
            return
        for model in (base.model, self.policy, self.reward_model):
            fuse_gelu(model)
        for blocks in (base.blocks, self.reward_model.top.blocks):
            pack_frozen(blocks)


def train_ppo(
    base: Any,
    policy: Any,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    config: PPOConfig,
    out: Path,
    *,
    on_point: OnPoint | None = None,
    on_answers: OnAnswers | None = None,
) -> PPOReport:
    """Train a policy and save it in `out/policy`, with `out/report.json`; resume from a checkpoint found in `out`.

    Only prompts of the training split are answered; the others are for the final evaluation. If the KL exceeds
    `config.max_kl_nats`, answers repeat themselves beyond `config.max_repetition`, or a number is NaN or infinite,
    training stops, the last good checkpoint is restored, and the report says why.

    Args:
        base, policy, codec, reward_model, prompts, config: see `PPOTrainer`.
        out: where policy, report and checkpoints go.
        on_point: called after every iteration.
        on_answers: called during the final evaluation.

    Raises:
        DataError: there is no training prompt, or one is too long for the model.
        ConfigError: the settings don't suit the algorithm or the reward model.
        ModelError: the reward model or the policy has a different base.
        CheckpointError: `out` holds another run.
    """
    check_inputs(base, codec, reward_model, prompts, config)
    checkpoints = Checkpoints(out / "checkpoints", inputs_digest(base, policy, reward_model, codec, prompts, config))
    trainer = PPOTrainer(base, policy, codec, reward_model, prompts, config)
    if kept := checkpoints.latest():
        trainer.restore(*kept)
    else:
        trainer.measure_scale()
        checkpoints.save(0, trainer.checkpoint())
    _train(trainer, checkpoints, on_point)
    trainer.reward_model.uncertainty_penalty = 0.0  # the evaluation uses plain scores
    found = evaluate_policy(
        trainer.policy,
        codec,
        trainer.reward_model,
        held_out_prompts(prompts, config),
        config.sampling,
        seed=seed_of(config.seed, "evaluation"),
        precision=config.precision,
        on_answers=on_answers,
    )
    state = trainer.state
    report = PPOReport(
        **asdict(found),
        reward_mean=state.curve[-1].reward if state.curve else None,
        truncated_prompts=codec.truncated_prompts,
        iterations=state.iteration,
        stopped=state.stopped,
        curve=tuple(state.curve),
    )
    with atomic_folder(out / "policy") as folder:
        trainer.policy.language_model.save_pretrained(folder, safe_serialization=True)
        codec.save(folder)
    report.save(out)
    return report


def _train(trainer: PPOTrainer, checkpoints: Checkpoints, on_point: OnPoint | None) -> None:
    config = trainer.config
    while trainer.state.iteration < config.iterations and trainer.state.stopped is None:
        try:
            point = trainer.iterate()
        except DivergedError as error:
            _return_to_last_good(trainer, checkpoints, str(error))
            checkpoints.save(trainer.state.iteration, trainer.checkpoint())
            return
        done = trainer.state.iteration
        if done % config.checkpoint_every_iterations == 0 or done == config.iterations:
            checkpoints.save(done, trainer.checkpoint())
        if on_point:
            on_point(point, config.iterations)


def _return_to_last_good(trainer: PPOTrainer, checkpoints: Checkpoints, reason: str) -> None:
    """Restore the newest checkpoint whose policy passed an iteration's checks, unlike the one that diverged."""
    failed, curve = trainer.state.iteration, trainer.state.curve
    steps = checkpoints.steps()
    earlier = [step for step in steps if step < failed] or steps[:1]
    trainer.restore(earlier[-1], checkpoints.load(earlier[-1]))
    trainer.state.curve = curve
    trainer.state.stopped = f"Iteration {failed + 1}: {reason} The policy after iteration {earlier[-1]} is kept."


def _check(point: PPOPoint, config: PPOConfig) -> None:
    """Stop training if the policy has diverged."""
    if not math.isfinite(point.kl_nats):
        raise DivergedError("log-probs are NaN or infinite", got=point.kl_nats)
    if point.kl_nats > config.max_kl_nats:
        raise DivergedError(
            "the policy moved too far from the base",
            got=f"a KL of {point.kl_nats:.1f} nats per sequence",
            expected=f"at most max_kl_nats = {config.max_kl_nats}",
            remedy="Lower ppo.learning_rate, or raise ppo.kl_coefficient.",
        )
    if point.repetition > config.max_repetition:
        raise DivergedError(
            "answers repeat themselves",
            got=f"{point.repetition:.0%} of their 4-grams had occurred earlier in the same answer",
            expected=f"at most max_repetition = {config.max_repetition}",
            remedy="The reward model favours repetition: have people judge such answers, or raise ppo.kl_coefficient.",
        )
