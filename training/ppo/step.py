"""One iteration of reinforcement learning: sample, score, compare with the reference, learn, move the KL coefficient.

References: Ziegler et al. 2019 (1909.08593); Stiennon et al. 2020 (2009.01325); Schulman et al. 2017 (1707.06347);
Huang et al. 2024, "The N Implementation Details of RLHF with PPO".

Legend: B answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data.types import PromptRecord, Split
from training.data.votes import split_of
from training.errors import DivergedError
from training.fast.frozen_layers import pack_frozen
from training.fast.fused_gelu import fuse_gelu
from training.fast.precision import autocast, compute_dtype
from training.models.reward import RewardModel, spread
from training.models.text import TextCodec
from training.objectives import adapted_kl_coefficient, kl_k1, kl_k3, masked_mean
from training.ppo.diagnostics import distinct_share, explained_variance, repetition
from training.ppo.inputs import prompts_of, seed_of
from training.ppo.report import PPOPoint
from training.ppo.run import PPORun
from training.ppo.update import UpdateStats, targets_of, update
from training.runs.schedule import warmup_then_line
from training.sampling.rollouts import Rollout, respond, score_samples
from training.sampling.sampler import Sampler

_SCALE_ANSWERS = 256  # answers of the base that set the scale of rewards


class PPOTrainer:
    """The parts of one run that don't change, and the steps of an iteration.

    Args:
        run: what changes.
        codec: the base's tokenizer and template.
        reward_model: on the same base as the run's policy; it is frozen from here on.
        prompts: of all parts; those of the training part are answered.
        config: hyperparameters.
    """

    def __init__(
        self,
        run: PPORun,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
    ) -> None:
        self.run, self.codec, self.reward_model, self.config = run, codec, reward_model, config
        reward_model.uncertainty_penalty = config.uncertainty_penalty
        self._speed_up()
        self.prompts = [record for record in prompts if split_of(record.prompt) is Split.TRAIN]
        self.prompt_ids = codec.encode_prompts([record.prompt for record in self.prompts])
        self.reference_scores = self._reference_scores()
        self.sampler = self._sampler(run.policy.language_model)

    def iterate(self) -> PPOPoint:
        """One iteration of the algorithm.

        Raises:
            DivergedError: KL or repetition passed its bound, or something isn't a number any more.
        """
        run, config = self.run, self.config
        chosen = prompts_of(run.iteration, config.prompts_per_iteration, len(self.prompts), config.seed)
        rollout = self._roll_out(chosen)
        rewards = self._rewards(rollout, chosen)
        kl_nats = float(kl_k1(rollout.logprobs, rollout.reference_logprobs, rollout.answer_mask).mean())
        self._check(kl_nats, rewards, repetition(rollout.tokens, rollout.answer_mask))
        targets = targets_of(rollout, rewards, config, run.kl_coefficient)
        for group in run.optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_then_line(run.iteration, config.iterations, config.warmup_share)
        seed = seed_of(config.seed, "minibatches", run.iteration)
        stats = update(run.policy, run.optimizer, rollout, targets, config, seed)
        point = self._point(rollout, rewards, kl_nats, targets.returns, stats)
        if config.adaptive_kl:
            run.kl_coefficient = adapted_kl_coefficient(
                run.kl_coefficient,
                kl_nats,
                target_nats=config.target_kl_nats,
                sequences=len(rollout),
                horizon_sequences=config.kl_horizon_sequences,
            )
        run.curve.append(point)
        run.iteration += 1
        return point

    def measure_scale(self, base: Any) -> None:
        """Take the base's own answers as the measure: their scores have mean 0 and deviation 1 as rewards.

        Reference: Ziegler et al. 2019 (1909.08593), section 2.2.
        """
        order = prompts_of(0, min(_SCALE_ANSWERS, len(self.prompts)), len(self.prompts), self.config.seed)
        prompts = [self.prompt_ids[index] for index in order]
        seeds = [seed_of(self.config.seed, "scale", row) for row in range(len(prompts))]
        samples = self._sampler(base).sample(prompts, self.config.sampling, seeds=seeds)
        codec = self.codec
        with self._computing():
            scores = score_samples(self.reward_model, prompts, samples, eos_id=codec.eos_id, pad_id=codec.pad_id)
        self.run.score_mean, self.run.score_std = spread(scores.tolist())

    def _roll_out(self, chosen: Sequence[int]) -> Rollout:
        """Sample answers and let policy, reference and reward model read them."""
        config, answers = self.config, self.config.answers_per_prompt
        prompts = [self.prompt_ids[index] for index in chosen]
        seeds = [seed_of(config.seed, "answers", self.run.iteration, row) for row in range(len(prompts) * answers)]
        samples = self.sampler.sample(prompts, config.sampling, seeds=seeds, answers_per_prompt=answers)
        with self._computing():
            return respond(
                self.run.policy,
                self.reward_model,
                [prompt for prompt in prompts for _ in range(answers)],
                samples,
                eos_id=self.codec.eos_id,
                pad_id=self.codec.pad_id,
                temperature=config.sampling.temperature,
                batch=config.minibatch_size,
            )

    def _computing(self) -> torch.autocast:
        base = self.run.policy.base
        return autocast(base.device, self.config.precision, base.hidden_size)

    def _speed_up(self) -> None:
        """Where the products are in bfloat16, compute GPT-2's GELU in one kernel and lay out what is frozen once."""
        policy = self.run.policy
        if compute_dtype(policy.base.device, self.config.precision, policy.base.hidden_size) == torch.float32:
            return
        for model in (policy.base.model, policy, self.reward_model):
            fuse_gelu(model)
        self.reward_model.requires_grad_(requires_grad=False)
        for blocks in (policy.base.blocks, self.reward_model.top.blocks):
            pack_frozen(blocks)

    def _sampler(self, model: Any) -> Sampler:
        return Sampler(model, eos_id=self.codec.eos_id, pad_id=self.codec.pad_id, precision=self.config.precision)

    def _rewards(self, rollout: Rollout, chosen: Sequence[int]) -> Tensor:
        """Normalised rewards (B,): the score over the reference answer's (else over the base's mean), less a penalty
        for never ending."""
        repeated = torch.tensor(chosen).repeat_interleave(self.config.answers_per_prompt)
        origins = self.reference_scores[repeated]
        origins = torch.where(origins.isnan(), self.run.score_mean, origins).to(rollout.scores.device)
        rewards = (rollout.scores - origins) / self.run.score_std
        return rewards - self.config.missing_eos_penalty * (~rollout.ended).float()

    def _reference_scores(self) -> Tensor:
        """The raw score (n_prompts,) of each prompt's reference answer, NaN where there is none or none is needed."""
        scores = torch.full((len(self.prompts),), math.nan)
        count, seed = self.config.prompts_per_iteration, self.config.seed
        asked = {
            row for turn in range(self.config.iterations) for row in prompts_of(turn, count, len(self.prompts), seed)
        }
        rows = [row for row in sorted(asked) if self.prompts[row].reference is not None]
        texts = [self.prompts[row].prompt for row in rows], [self.prompts[row].reference or "" for row in rows]
        if rows:
            with self._computing():
                scores[rows] = self.reward_model.score_texts(self.codec, *texts)
        return scores

    def _check(self, kl_nats: float, rewards: Tensor, repeated: float) -> None:
        if not (math.isfinite(kl_nats) and bool(torch.isfinite(rewards).all())):
            raise DivergedError("log-probs or scores aren't numbers any more", got=kl_nats)
        if kl_nats > self.config.max_kl_nats:
            raise DivergedError(
                "the policy moved too far from the base",
                got=f"a KL of {kl_nats:.1f} nats a sequence",
                expected=f"at most max_kl_nats = {self.config.max_kl_nats}",
                remedy="Lower ppo.learning_rate, or raise ppo.kl_coefficient.",
            )
        if repeated > self.config.max_repetition:
            raise DivergedError(
                "answers repeat themselves",
                got=f"{repeated:.0%} of their stretches of 4 tokens stood in the same answer before",
                expected=f"at most max_repetition = {self.config.max_repetition}",
                remedy="The reward model likes repetition: show people such answers, or raise ppo.kl_coefficient.",
            )

    def _point(
        self, rollout: Rollout, rewards: Tensor, kl_nats: float, returns: Tensor, stats: UpdateStats
    ) -> PPOPoint:
        mask, config = rollout.answer_mask, self.config
        k3 = kl_k3(rollout.logprobs, rollout.reference_logprobs, mask)
        return PPOPoint(
            iteration=self.run.iteration + 1,
            reward=float(rewards.mean()),
            score=float(rollout.scores.mean()),
            eos_penalty=config.missing_eos_penalty * float((~rollout.ended).float().mean()),
            kl_penalty=self.run.kl_coefficient * kl_nats,
            kl_nats=kl_nats,
            kl_k3_nats=float(k3.mean()),
            kl_coefficient=self.run.kl_coefficient,
            entropy_nats=float(masked_mean(rollout.entropies, mask)),
            answer_tokens=float(mask.sum(dim=1).float().mean()),
            ended_share=float(rollout.ended.float().mean()),
            distinct_1=distinct_share(rollout.tokens, mask, 1),
            distinct_2=distinct_share(rollout.tokens, mask, 2),
            repetition=repetition(rollout.tokens, mask),
            explained_variance=explained_variance(rollout.values[mask], returns[mask])
            if config.algorithm == "ppo"
            else None,
            **asdict(stats),
        )
