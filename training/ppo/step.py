"""One iteration of reinforcement learning: rollout, rewards, targets, update.

References: Ziegler et al. 2019 (1909.08593); Stiennon et al. 2020 (2009.01325); Schulman et al. 2017 (1707.06347);
Huang et al. 2024, "The N Implementation Details of RLHF with PPO".

Legend: B answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import PromptRecord, Split, split_of
from training.errors import DivergedError
from training.fast import autocast
from training.models import PolicyWithValue, RewardModel, TextCodec, spread
from training.ppo.diagnostics import point_of
from training.ppo.inputs import prompts_of, seed_of
from training.ppo.report import PPOPoint
from training.ppo.update import targets_of, update
from training.sampling import Rollout, Sampler, respond, score_samples

_SCALE_ANSWERS = 256  # answers by the base that set the scale of rewards


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of the scores of the base's own answers, which rewards are normalised by."""

    mean: float = 0.0
    deviation: float = 1.0


class PPOStep:
    """One iteration, and everything that iterations share.

    Args:
        policy: the policy being trained.
        optimizer: of the policy's parameters.
        codec: the base's tokenizer and template.
        reward_model: on the policy's base, frozen.
        prompts: of all splits; those of the training split are answered.
        config: hyperparameters.
    """

    def __init__(
        self,
        policy: PolicyWithValue,
        optimizer: torch.optim.Optimizer,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
    ) -> None:
        self.policy, self.optimizer, self.config = policy, optimizer, config
        self._codec, self._reward_model = codec, reward_model
        self._prompts = [record for record in prompts if split_of(record.prompt) is Split.TRAIN]
        self._prompt_ids = codec.encode_prompts([record.prompt for record in self._prompts])
        self._reference_scores = self._score_references()
        self._sampler = self._sampler_of(policy.language_model)

    def take(self, iteration: int, kl_coefficient: float, scale: Scale) -> PPOPoint:
        """Learn from one batch of fresh answers.

        Args:
            iteration: its number, from 0, which determines prompts and seeds.
            kl_coefficient: beta.
            scale: what turns scores into rewards.

        Returns:
            The batch's metrics.

        Raises:
            DivergedError: a score, a loss or a gradient is NaN or infinite.
        """
        rollout = self._roll_out(iteration)
        rewards = self._rewards(rollout, iteration, scale)
        targets = targets_of(rollout, rewards, self.config, kl_coefficient)
        stats = update(self.policy, self.optimizer, rollout, targets, self.config, self._seed("minibatches", iteration))
        return point_of(iteration, rollout, rewards, targets.returns, stats, kl_coefficient, self.config)

    def scale(self) -> Scale:
        """The scale of rewards, measured on the base's own answers.

        Reference: Ziegler et al. 2019 (1909.08593), section 2.2.
        """
        order = prompts_of(0, min(_SCALE_ANSWERS, len(self._prompts)), len(self._prompts), self.config.seed)
        prompts = [self._prompt_ids[index] for index in order]
        seeds = [self._seed("scale", row) for row in range(len(prompts))]
        samples = self._sampler_of(self.policy.base.model).sample(prompts, self.config.sampling, seeds=seeds)
        with self._computing():
            scores = score_samples(self._reward_model, prompts, samples, eos_id=self._codec.eos_id)
        return Scale(*spread(scores.tolist()))

    def _roll_out(self, iteration: int) -> Rollout:
        """Sample answers and run policy, reference and reward model on them."""
        config, answers = self.config, self.config.answers_per_prompt
        prompts = [self._prompt_ids[index] for index in self._chosen(iteration)]
        seeds = [self._seed("answers", iteration, row) for row in range(len(prompts) * answers)]
        samples = self._sampler.sample(prompts, config.sampling, seeds=seeds, answers_per_prompt=answers)
        repeated = [prompt for prompt in prompts for _ in range(answers)]
        with self._computing():
            return respond(
                self.policy,
                self._reward_model,
                repeated,
                samples,
                eos_id=self._codec.eos_id,
                temperature=config.sampling.temperature,
                batch=config.micro_batch_size or config.minibatch_size,
            )

    def _rewards(self, rollout: Rollout, iteration: int, scale: Scale) -> Tensor:
        """Normalised rewards (B,) relative to the reference answer's score (else the base's mean), with EOS penalty."""
        rows = torch.tensor(self._chosen(iteration)).repeat_interleave(self.config.answers_per_prompt)
        origins = self._reference_scores[rows]
        origins = torch.where(origins.isnan(), scale.mean, origins).to(rollout.scores.device)
        rewards = (rollout.scores - origins) / scale.deviation
        rewards -= self.config.missing_eos_penalty * (~rollout.ended).float()
        if not bool(torch.isfinite(rewards).all()):
            raise DivergedError("scores are NaN or infinite")
        return rewards

    def _score_references(self) -> Tensor:
        """The raw score (n_prompts,) of each prompt's reference answer, NaN where there is none or it isn't needed."""
        scores = torch.full((len(self._prompts),), math.nan)
        asked = {row for iteration in range(self.config.iterations) for row in self._chosen(iteration)}
        rows = [row for row in sorted(asked) if self._prompts[row].reference is not None]
        if rows:
            prompts = [self._prompts[row].prompt for row in rows]
            references = [self._prompts[row].reference or "" for row in rows]
            with self._computing():
                scores[rows] = self._reward_model.score_texts(self._codec, prompts, references)
        return scores

    def _chosen(self, iteration: int) -> list[int]:
        """Indices of the prompts that an iteration answers."""
        return prompts_of(iteration, self.config.prompts_per_iteration, len(self._prompts), self.config.seed)

    def _seed(self, *purpose: int | str) -> int:
        return seed_of(self.config.seed, *purpose)

    def _computing(self) -> torch.autocast:
        base = self.policy.base
        return autocast(base.device, self.config.precision, base.hidden_size)

    def _sampler_of(self, model: Any) -> Sampler:
        codec = self._codec
        return Sampler(model, eos_id=codec.eos_id, pad_id=codec.pad_id, precision=self.config.precision)
