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
from training.evaluation import OnAnswers, similarity
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.ppo.inputs import seed_of
from training.sampling import Reference, Sampler, Samples, reference_entropy, score_samples

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
    on_answers: OnAnswers | None = None,
) -> Baseline:
    """Let the reference answer the prompts that training will ask.

    A prompt's rewards start from the score of its reference answer, or where there is none, from what the reference
    policy's answers to it score, see `shrunk_means`. One origin for all prompts would reward a policy for whatever
    prompts happen to score high.

    Args:
        policy, reference, reward_model: on the same base.
        sampler: samples from the reference.
        codec: the base's tokenizer and template.
        prompts: P of them, of the training split.
        asked: indices of those that training will answer.
        config: hyperparameters.
        on_answers: called with the number of prompts answered so far, and of all.
    """
    origins = torch.full((len(prompts),), math.nan)
    written = [row for row in asked if prompts[row].reference is not None]
    needs_origin = config.algorithm in {"ppo", "reinforce"}  # the others compare answers to one prompt
    rows = [row for row in asked if needs_origin and prompts[row].reference is None]
    rows = sorted({*rows, *list(asked)[:_SPREAD_PROMPTS]})
    ids = codec.encode_prompts([prompts[row].prompt for row in rows])
    count = config.origin_answers
    parts, scored = [], []
    for start in range(0, len(rows), _BATCH):
        if on_answers:
            on_answers(start, len(rows))
        some = rows[start : start + _BATCH]
        seeds = [seed_of(config.seed, "origins", row, answer) for row in some for answer in range(count)]
        asking = ids[start : start + _BATCH]
        parts.append(sampler.sample(asking, config.sampling, seeds=seeds, answers_per_prompt=count))
        repeated = [prompt for prompt in asking for _ in range(count)]
        scored.append(score_samples(reward_model, codec, repeated, parts[-1], batch=_BATCH)[0])
    if on_answers:
        on_answers(len(rows), len(rows))
    scores = torch.cat(scored).view(len(rows), count)
    origins[rows] = shrunk_means(scores)
    if written:
        texts = [prompts[row].prompt for row in written], [prompts[row].reference or "" for row in written]
        origins[written] = reward_model.score_texts(codec, *texts)
    firsts = [part.rows(torch.arange(0, len(part), count)) for part in parts[: _SPREAD_PROMPTS // _BATCH]]
    return Baseline(
        origins=origins.tolist(),
        spread=pooled_spread(scores),
        answer_tokens=sum(float(part.mask.sum()) for part in parts) / scores.numel(),
        entropy_nats=_entropy(policy, reference, ids, firsts, codec, config),
        similarity=similarity([answer for part in firsts for answer in part.answers()]) or 0.0,
    )


def _entropy(
    policy: PolicyWithValue,
    reference: Reference,
    ids: Sequence[Sequence[int]],
    firsts: Sequence[Samples],
    codec: TextCodec,
    config: PPOConfig,
) -> float:
    """The reference's mean entropy per token, over one answer to each of the first prompts."""
    total, tokens, start = 0.0, 0, 0
    for part in firsts:
        asking, count = ids[start : start + len(part)], int(part.mask.sum())
        temperature = config.sampling.temperature
        found = reference_entropy(
            policy, reference, asking, part, eos_id=codec.eos_id, temperature=temperature, batch=_BATCH
        )
        total, tokens, start = total + found * count, tokens + count, start + len(part)
    return total / max(1, tokens)


def shrunk_means(scores: Tensor) -> Tensor:
    """What an answer to each prompt can be expected to score (P,), from the scores (P, K), K > 1, of a few.

    The mean of a prompt's few answers is drawn towards the mean of all prompts, the more the less prompts differ beside
    answers to one prompt: with B the variance between prompts and W within, by the factor W/K / (B + W/K) (empirical
    Bayes; Efron and Morris 1973, Stein's estimation rule and its competitors). So two answers go a long way.
    """
    exact = scores.double()
    means, overall = exact.mean(dim=1), exact.mean()
    if len(means) < 2:
        return means.to(scores.dtype)
    noise = float(exact.var(dim=1).mean()) / scores.shape[1]
    variance = float(means.var())
    kept = max(0.0, 1.0 - noise / variance) if variance > 0 else 0.0
    return (overall + kept * (means - overall)).to(scores.dtype)


def pooled_spread(scores: Tensor) -> float:
    """The standard deviation within a prompt of scores (P, K), K > 1, pooled over prompts; 1 where nothing varies."""
    variance = float(scores.double().var(dim=1).mean())
    return math.sqrt(variance) if variance > 1e-12 else 1.0
