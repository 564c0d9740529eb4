"""One iteration of reinforcement learning: rollout, rewards, targets, update.

References: Ziegler et al. 2019 (1909.08593); Stiennon et al. 2020 (2009.01325); Schulman et al. 2017 (1707.06347);
Huang et al. 2024, "The N Implementation Details of RLHF with PPO".

Legend: B answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import PromptRecord, Split, split_of
from training.errors import DivergedError
from training.evaluation import OnAnswers
from training.fast import autocast
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.ppo.baseline import Baseline, measure_baseline
from training.ppo.critic import Critic, features_of
from training.ppo.diagnostics import point_of
from training.ppo.inputs import prompts_of, seed_of
from training.ppo.report import PPOPoint
from training.ppo.update import targets_of, update
from training.sampling import Reference, Rollout, Sampler, respond


class PPOStep:
    """One iteration, and everything that iterations share.

    Args:
        policy: the policy being trained.
        reference: where the KL is measured from.
        optimizer: of the policy's parameters.
        codec: the base's tokenizer and template.
        reward_model: on the policy's base, frozen.
        prompts: of all splits; those of the training split are answered.
        config: hyperparameters.
    """

    def __init__(
        self,
        policy: PolicyWithValue,
        reference: Reference,
        optimizer: torch.optim.Optimizer,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
    ) -> None:
        self.policy, self.optimizer, self.config = policy, optimizer, config
        self._codec, self._reward_model, self._reference = codec, reward_model, reference
        self._prompts = [record for record in prompts if split_of(record.prompt) is Split.TRAIN]
        self._prompt_ids = codec.encode_prompts([record.prompt for record in self._prompts])
        self._sampler = self._sampler_of(policy.language_model)

    def take(self, iteration: int, kl_coefficient: float, baseline: Baseline, critic: Critic) -> PPOPoint:
        """Learn from one batch of fresh answers.

        Args:
            iteration: its number, from 0, which determines prompts and seeds.
            kl_coefficient: beta.
            baseline: from which rewards are measured.
            critic: learns from this batch once its own predictions have been used.

        Returns:
            The batch's metrics.

        Raises:
            DivergedError: a score, a loss or a gradient is NaN or infinite.
        """
        rollout = self._roll_out(iteration)
        rewards = self._rewards(rollout, iteration, baseline)
        if self.config.algorithm == "rloo" and self.config.values_every_token:
            rollout = replace(rollout, values=self._expected(rollout, rewards, baseline, critic))
        targets = targets_of(rollout, rewards, self.config, kl_coefficient)
        stats = update(self.policy, self.optimizer, rollout, targets, self.config, self._seed("minibatches", iteration))
        return point_of(iteration, rollout, rewards, targets.returns, stats, kl_coefficient, self.config)

    def measure_baseline(self, on_answers: OnAnswers | None = None) -> Baseline:
        """Let the reference answer the prompts that will be asked; see `Baseline`."""
        asked = {row: None for iteration in range(self.config.iterations) for row in self._chosen(iteration)}
        with self._computing():
            return measure_baseline(
                self.policy,
                self._reference,
                self._sampler_of(self._reference.model),
                self._codec,
                self._reward_model,
                self._prompts,
                list(asked),
                self.config,
                on_answers,
            )

    def _roll_out(self, iteration: int) -> Rollout:
        """Sample answers and run policy, reference and reward model on them."""
        config, answers = self.config, self.config.answers
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
                reference=self._reference,
                seen=self._codec.as_seen(samples.answers()),
            )

    def _rewards(self, rollout: Rollout, iteration: int, baseline: Baseline) -> Tensor:
        """Rewards (B,) in spreads above each prompt's origin, minus the penalties of answers that don't end or say
        nothing.
        """
        config, scores = self.config, rollout.scores
        rows = torch.tensor(self._chosen(iteration)).repeat_interleave(config.answers)
        # Only algorithms that compare answers to one prompt, whose origin cancels, leave origins unmeasured.
        origins = torch.tensor(baseline.origins)[rows].nan_to_num().to(scores.device)
        rewards = (scores - origins) / baseline.spread
        rewards -= config.missing_eos_penalty * (~rollout.ended).float()
        rewards -= config.blank_penalty * self._blank(rollout).float()
        if not bool(torch.isfinite(rewards).all()):
            raise DivergedError("scores are NaN or infinite")
        return rewards

    def _expected(self, rollout: Rollout, rewards: Tensor, baseline: Baseline, critic: Critic) -> Tensor:
        """What the critic expects (B, T) of each answer before each token; it learns from these answers afterwards."""
        features = features_of(rollout, rewards, self.config.answers, baseline.spread, baseline.answer_tokens)
        expected = torch.where(rollout.answer_mask, critic.values(features), 0.0)
        critic.learn(features, rollout.answer_mask, rewards)
        return expected

    def _blank(self, rollout: Rollout) -> Tensor:
        """Whether each answer (B,) has no visible text, which no annotator would choose."""
        lengths = rollout.answer_mask.sum(dim=1).tolist()
        texts = [
            self._codec.decode_answer(row[:end]) for row, end in zip(rollout.tokens.tolist(), lengths, strict=True)
        ]
        return torch.tensor([not text.strip() for text in texts], device=rollout.scores.device)

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
        return Sampler(model, end_ids=codec.end_ids, pad_id=codec.pad_id, precision=self.config.precision)
