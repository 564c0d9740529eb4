"""Compares a policy with its base on held-out prompts, as judged by the reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from training.config import SamplingConfig
from training.data import PromptRecord
from training.evaluation.intervals import accuracy_with_interval
from training.evaluation.rouge import rouge
from training.fast import Precision
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.objectives import kl_k1
from training.sampling import Sampler, respond, score_samples

_BATCH = 32

OnAnswers = Callable[[int, int], None]
"""Called during an evaluation with the number of prompts answered so far, and of all prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvaluation:
    """Policy and base compared on fresh answers, one each to every prompt.

    evaluated_prompts: how many prompts were answered.
    kl_nats: KL from the base per sequence, the mean log-ratio of the policy's answers.
    win_rate_vs_base: share of prompts where the reward model scores the policy's answer above the base's; ties count
        half. `win_rate_interval` is its 95% Wilson interval.
    answer_tokens, base_answer_tokens: mean lengths, end of text included.
    win_rate_vs_reference, base_win_rate_vs_reference: the same against the answers people wrote.
    rouge, base_rouge: overlap of the answers with those people wrote; for information only.

    The numbers are None if there are no prompts, the last four if no prompt has a reference answer.
    """

    evaluated_prompts: int = 0
    kl_nats: float | None = None
    win_rate_vs_base: float | None = None
    win_rate_interval: tuple[float, float] = (0.0, 1.0)
    answer_tokens: float | None = None
    base_answer_tokens: float | None = None
    win_rate_vs_reference: float | None = None
    base_win_rate_vs_reference: float | None = None
    rouge: dict[str, float] | None = None
    base_rouge: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class _Answers:
    """One model's answers, in the prompts' order."""

    texts: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def evaluate_policy(
    policy: PolicyWithValue,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    sampling: SamplingConfig,
    *,
    seed: int,
    precision: Precision = "auto",
    on_answers: OnAnswers | None = None,
) -> PolicyEvaluation:
    """Sample answers from both, score them and count wins; compare with reference answers too where there are any.

    Args:
        policy: the policy to evaluate.
        codec: the base's tokenizer and template.
        reward_model: on the policy's base; decides which answer wins.
        prompts: prompts held out from training.
        sampling: how answers are sampled; the KL is measured at its temperature.
        seed: the same seed gives the same answers.
        precision: the precision of sampling; scores and log-probs are computed in float32.
        on_answers: called before each batch and at the end.
    """
    if not prompts:
        return PolicyEvaluation()
    ids = codec.encode_prompts([record.prompt for record in prompts])
    sampler, base_sampler = (
        Sampler(model, end_ids=(codec.eos_id,), pad_id=codec.pad_id, precision=precision)
        for model in (policy.language_model, policy.base.model)
    )
    kls: list[float] = []
    mine, bases = _Answers(), _Answers()
    for start in range(0, len(ids), _BATCH):
        if on_answers:
            on_answers(start, len(ids))
        part = ids[start : start + _BATCH]
        seeds = [(seed + 2 * (start + row)) % 2**63 for row in range(len(part))]
        ours = sampler.sample(part, sampling, seeds=seeds)
        theirs = base_sampler.sample(part, sampling, seeds=[(item + 1) % 2**63 for item in seeds])
        rollout = respond(
            policy, reward_model, part, ours, eos_id=codec.eos_id, temperature=sampling.temperature, batch=_BATCH
        )
        kls += kl_k1(rollout.logprobs, rollout.reference_logprobs, rollout.answer_mask).tolist()
        base_scores = score_samples(reward_model, part, theirs, eos_id=codec.eos_id, batch=_BATCH)
        for answers, samples, scores in ((mine, ours, rollout.scores.cpu()), (bases, theirs, base_scores)):
            answers.texts.extend(codec.decode_answer(row) for row in samples.answers())
            answers.scores.extend(scores.tolist())
            answers.lengths.extend(samples.mask.sum(dim=1).tolist())
    if on_answers:
        on_answers(len(ids), len(ids))
    win_rate, interval = _win_rate(mine.scores, bases.scores)
    vs_reference, base_vs_reference = _against_references(codec, reward_model, prompts, mine, bases)
    return PolicyEvaluation(
        evaluated_prompts=len(prompts),
        kl_nats=sum(kls) / len(kls),
        win_rate_vs_base=win_rate,
        win_rate_interval=interval,
        answer_tokens=sum(mine.lengths) / len(mine.lengths),
        base_answer_tokens=sum(bases.lengths) / len(bases.lengths),
        win_rate_vs_reference=vs_reference[0],
        base_win_rate_vs_reference=base_vs_reference[0],
        rouge=vs_reference[1],
        base_rouge=base_vs_reference[1],
    )


def _against_references(
    codec: TextCodec, reward_model: RewardModel, prompts: Sequence[PromptRecord], *models: _Answers
) -> list[tuple[float | None, dict[str, float] | None]]:
    """Each model's win rate against the reference answers, and its ROUGE; the references are scored once for all."""
    known = [(row, record.prompt, record.reference) for row, record in enumerate(prompts) if record.reference]
    if not known:
        return [(None, None) for _ in models]
    rows, texts, references = (list(column) for column in zip(*known, strict=True))
    scores = reward_model.score_texts(codec, texts, references).tolist()
    return [
        (
            _win_rate([answers.scores[row] for row in rows], scores)[0],
            rouge([answers.texts[row] for row in rows], references),
        )
        for answers in models
    ]


def _win_rate(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float | None, tuple[float, float]]:
    wins = sum(0.5 if one == other else float(one > other) for one, other in zip(ours, theirs, strict=True))
    return accuracy_with_interval(wins, len(ours))
