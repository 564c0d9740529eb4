"""Reinforcement learning of the policy against the reward model, held near the base by a KL penalty.

One iteration: sample answers, score them, take log-probs under policy and reference, turn scores and KL into rewards,
learn from them for a few epochs, move the KL coefficient.

References: Ziegler et al. 2019 (1909.08593); Stiennon et al. 2020 (2009.01325); Schulman et al. 2017 (1707.06347);
Huang et al. 2024, "The N Implementation Details of RLHF with PPO".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoints import Checkpoints
from training.config import PPOConfig
from training.diagnostics import distinct_share, explained_variance, repetition
from training.errors import DivergedError
from training.files import atomic_folder
from training.frozen_head import FrozenHead
from training.fused_gelu import fuse_gelu
from training.held_out import report_of
from training.models import PolicyWithValue
from training.objectives import adapted_kl_coefficient, kl_k1, kl_k3, masked_mean
from training.policy_evaluation import OnAnswers
from training.ppo_inputs import check_inputs, inputs_digest, prompts_of, seed_of
from training.ppo_report import PPOPoint, PPOReport
from training.ppo_run import PPORun
from training.ppo_update import UpdateStats, targets_of, update
from training.precision import autocast, compute_dtype
from training.preferences import split_of
from training.reward_model import RewardModel, spread
from training.rollout import Rollout, respond, score_samples
from training.sampling import Sampler
from training.schedule import warmup_then_line
from training.text import TextCodec
from training.types import PromptRecord, Split

OnPoint = Callable[[PPOPoint, int], None]
"""Called after every iteration with the new point of the curve and the number of iterations in all."""

_SCALE_ANSWERS = 256  # answers of the base that set the scale of rewards


class _Trainer:
    """The parts of one run that don't change, and the steps of an iteration."""

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
        """Where the products are in bfloat16: a head that is exact nevertheless, and GPT-2's GELU in one kernel."""
        policy = self.run.policy
        if compute_dtype(policy.base.device, self.config.precision, policy.base.hidden_size) == torch.float32:
            return
        for model in (policy.base.model, policy, self.reward_model):
            fuse_gelu(model)
        output = policy.base.model.get_output_embeddings()
        if output.bias is None:
            policy.head = FrozenHead(output.weight)

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
    """Train a policy and leave it in `out/policy` with `report.json`; go on from a checkpoint found in `out`.

    Only prompts of the training part are answered; the others serve the evaluation at the end. When the KL passes
    `config.max_kl_nats`, answers repeat themselves beyond `config.max_repetition`, or a number is none any more,
    training stops, the last good checkpoint is taken, and the report says why.

    Args:
        base: the base model (a transformers PreTrainedModel), the reference; it is frozen.
        policy: the version to start from (a PreTrainedModel, changed in place), None to start from the base.
        codec: the base's tokenizer and template.
        reward_model: on the same `base`.
        prompts: of all parts.
        config: hyperparameters.
        out: where policy, report and checkpoints go.
        on_point: called after every iteration.
        on_answers: called during the evaluation at the end.

    Raises:
        DataError: there is no training prompt, or one too long for the model.
        ConfigError: the algorithm and the number of answers a prompt don't go together.
        ModelError: reward model or policy don't stand on this base.
        CheckpointError: `out` holds another run.
    """
    check_inputs(base, codec, reward_model, prompts, config)
    digest = inputs_digest(base, policy, reward_model, codec, prompts, config)
    model = PolicyWithValue(base, policy, config.trainable_layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, eps=1e-5, weight_decay=0.0, fused=True)
    run = PPORun(model, optimizer, config.kl_coefficient)
    trainer = _Trainer(run, codec, reward_model, prompts, config)
    checkpoints = Checkpoints(out / "checkpoints", digest)
    if found := checkpoints.latest():
        run.restore(*found)
    else:
        trainer.measure_scale(base)
        checkpoints.save(0, run.state())
    _train(trainer, checkpoints, on_point)
    reward_model.uncertainty_penalty = 0.0  # what was reached is measured by the scores themselves
    report = report_of(run, base, codec, reward_model, prompts, config, on_answers)
    with atomic_folder(out / "policy") as folder:
        model.language_model.save_pretrained(folder, safe_serialization=True)
        codec.save(folder)
    report.save(out)
    return report


def _train(trainer: _Trainer, checkpoints: Checkpoints, on_point: OnPoint | None) -> None:
    run, config = trainer.run, trainer.config
    while run.iteration < config.iterations and run.stopped is None:
        try:
            point = trainer.iterate()
        except DivergedError as error:
            _return_to_last_good(run, checkpoints, str(error))
            checkpoints.save(run.iteration, run.state())
            return
        if run.iteration % config.checkpoint_every_iterations == 0 or run.iteration == config.iterations:
            checkpoints.save(run.iteration, run.state())
        if on_point:
            on_point(point, config.iterations)


def _return_to_last_good(run: PPORun, checkpoints: Checkpoints, reason: str) -> None:
    """Take the newest checkpoint whose policy has been measured since, which the diverged one's hasn't."""
    failed, curve = run.iteration, list(run.curve)
    steps = checkpoints.steps()
    earlier = [step for step in steps if step < failed] or steps[:1]
    run.restore(earlier[-1], checkpoints.load(earlier[-1]))
    run.curve = curve
    run.stopped = f"Iteration {failed + 1}: {reason} The policy after iteration {run.iteration} is kept."
