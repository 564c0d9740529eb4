"""What the reference's own answers say: where rewards start, how much they vary, how long and varied answers are.

Legend: P prompts, K answers to each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import PromptRecord
from training.evaluation import similarity
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.ppo.inputs import seed_of
from training.sampling import Reference, Sampler, reference_entropy, score_samples

_SPREAD_PROMPTS = 64
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference's own answers in figures, measured once, before the first iteration.

    origins: the score from which each training prompt's rewards are measured; NaN for prompts that are never asked.
    spread: the standard deviation of scores within a prompt, pooled over prompts; rewards are in this unit.
    answer_tokens: mean length, end of text included.
    entropy_nats: mean entropy per answer token.
    similarity: how alike answers to different prompts are.
    """

    origins: list[float] = field(default_factory=list)
    spread: float = 1.0
    answer_tokens: float = 1.0
    entropy_nats: float = 0.0
    similarity: float = 0.0

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """From a checkpoint."""
        return cls(**state)


def measure_baseline(
    policy: PolicyWithValue,
    reference: Reference,
    sampler: Sampler,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    asked: Sequence[int],
    config: PPOConfig,
) -> Baseline:
    """Let the reference answer the prompts that training will ask.

    A prompt's rewards start from the score of its reference answer, or where there is none, from the mean score of the
    reference policy's answers to it. One origin for all prompts would reward a policy for whatever prompts happen to
    score high.

    Args:
        policy, reference, reward_model: on the same base.
        sampler: samples from the reference.
        codec: the base's tokenizer and template.
        prompts: P of them, of the training split.
        asked: indices of those that training will answer.
        config: hyperparameters.
    """
    origins = torch.full((len(prompts),), math.nan)
    written = [row for row in asked if prompts[row].reference is not None]
    needs_origin = config.algorithm in {"ppo", "reinforce"}  # the others compare answers to one prompt
    rows = [row for row in asked if needs_origin and prompts[row].reference is None]
    rows = sorted({*rows, *list(asked)[:_SPREAD_PROMPTS]})
    ids = codec.encode_prompts([prompts[row].prompt for row in rows])
    count = config.origin_answers
    seeds = [seed_of(config.seed, "origins", row, answer) for row in rows for answer in range(count)]
    samples = sampler.sample(ids, config.sampling, seeds=seeds, answers_per_prompt=count)
    repeated = [prompt for prompt in ids for _ in range(count)]
    scores = score_samples(reward_model, codec, repeated, samples, batch=_BATCH).view(len(rows), count)
    origins[rows] = scores.mean(dim=1)
    if written:
        texts = [prompts[row].prompt for row in written], [prompts[row].reference or "" for row in written]
        origins[written] = reward_model.score_texts(codec, *texts)
    firsts = samples.rows(torch.arange(0, len(samples), count)[:_SPREAD_PROMPTS])
    return Baseline(
        origins=origins.tolist(),
        spread=pooled_spread(scores),
        answer_tokens=float(samples.mask.sum(dim=1).float().mean()),
        entropy_nats=reference_entropy(
            policy,
            reference,
            ids[:_SPREAD_PROMPTS],
            firsts,
            eos_id=codec.eos_id,
            temperature=config.sampling.temperature,
            batch=_BATCH,
        ),
        similarity=similarity(firsts.answers()) or 0.0,
    )


def pooled_spread(scores: Tensor) -> float:
    """The standard deviation within a prompt of scores (P, K), K > 1, pooled over prompts; 1 where nothing varies."""
    variance = float(scores.double().var(dim=1).mean())
    return math.sqrt(variance) if variance > 1e-12 else 1.0
