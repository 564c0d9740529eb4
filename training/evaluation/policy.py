"""Compares a policy with the base, with the champion, and with the best of n answers of the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import PromptRecord, prompt_in_words
from training.evaluation.answers import Answers, Examiner
from training.evaluation.best_of_n import BestOfN, best_of_n_curve, win_shares
from training.evaluation.frontier import verdict
from training.evaluation.intervals import accuracy_with_interval, mean_with_interval
from training.evaluation.rouge import rouge
from training.evaluation.variety import distinct_share, repetition, similarity
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.sampling import Reference

_BATCH = 32
_POOL_ANSWERS = 1024  # in all pools together, so that they take no longer than the other answers
_POOL_PROMPTS = 32  # at most
_SMALL_MODEL = 20_000_000  # parameters; below it, sampling is cheap
_EXAMPLES = 50  # prompts at most whose answers a report shows

OnAnswers = Callable[[int, int], None]
"""Called during an evaluation with the number of prompts answered so far, and of all prompts."""


@dataclass(frozen=True, slots=True)
class Example:
    """One answer of each model to a held-out prompt, for people to read, with the judge's scores of the three."""

    prompt: str
    base: str
    champion: str
    policy: str
    base_score: float
    champion_score: float
    policy_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvaluation:
    """A policy's fresh answers to held-out prompts, beside those of the base and of the champion.

    Answers are compared by the judge's scores, each of one with each of the other to the same prompt, ties counted
    half. Intervals are at 95%, by prompt.

    evaluated_prompts, answers_per_prompt: how many prompts were answered, and how often.
    kl_nats, kl_from_base_nats: KL per sequence from the reference and from the base, the mean log-ratio of the answers.
    win_rate_vs_base, win_rate_vs_champion: share of comparisons won, and intervals. Without a champion, both are the
        same.
    answer_tokens, base_answer_tokens: mean lengths, end of text included.
    entropy_nats, base_entropy_nats: mean entropy per answer token.
    distinct_1, distinct_2, base_distinct_2: distinct unigrams and bigrams as a share of all in one answer per prompt.
    similarity, base_similarity: how alike answers to different prompts are, from 0 to 1.
    repetition: mean share of an answer's 4-grams that occurred in it before.
    blank_share: share of answers without visible text.
    best_of_n: best-of-n of the base on some of the prompts; `gain_on_pool` and `win_rate_on_pool` are the policy's
        figures on the same ones, and `verdict` says whether it earns its KL.
    win_rate_vs_reference, base_win_rate_vs_reference: against the answers people wrote.
    rouge, base_rouge: overlap of the answers with those people wrote; for information only.
    examples: answers to some of the prompts; none in older reports.

    The numbers are None if there are no prompts, the last four if no prompt has a reference answer.
    """

    evaluated_prompts: int = 0
    answers_per_prompt: int = 1
    kl_nats: float | None = None
    kl_from_base_nats: float | None = None
    win_rate_vs_base: float | None = None
    win_rate_interval: tuple[float, float] = (0.0, 1.0)
    win_rate_vs_champion: float | None = None
    champion_interval: tuple[float, float] = (0.0, 1.0)
    answer_tokens: float | None = None
    base_answer_tokens: float | None = None
    entropy_nats: float | None = None
    base_entropy_nats: float | None = None
    distinct_1: float | None = None
    distinct_2: float | None = None
    base_distinct_2: float | None = None
    similarity: float | None = None
    base_similarity: float | None = None
    repetition: float | None = None
    blank_share: float | None = None
    best_of_n: tuple[BestOfN, ...] = ()
    gain_on_pool: float | None = None
    win_rate_on_pool: float | None = None
    verdict: str = ""
    win_rate_vs_reference: float | None = None
    base_win_rate_vs_reference: float | None = None
    rouge: dict[str, float] | None = None
    base_rouge: dict[str, float] | None = None
    examples: tuple[Example, ...] = ()

    @staticmethod
    def fields_from_json(content: dict[str, Any]) -> dict[str, Any]:
        """The content of a report, with tuples where JSON has lists; older reports compare with the base only."""
        low, high = content["win_rate_interval"]
        champion = content.get("champion_interval", (low, high))
        return {
            "win_rate_vs_champion": content["win_rate_vs_base"],
            **content,
            "win_rate_interval": (low, high),
            "champion_interval": (champion[0], champion[1]),
            "best_of_n": tuple(BestOfN(**point) for point in content.get("best_of_n", ())),
            "examples": tuple(Example(**example) for example in content.get("examples", ())),
        }


def evaluate_policy(
    policy: PolicyWithValue,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    config: PPOConfig,
    *,
    seed: int,
    reference: Reference | None = None,
    champion: Any = None,
    on_answers: OnAnswers | None = None,
) -> PolicyEvaluation:
    """Sample answers from policy, champion and base, and compare them; with reference answers too where there are any.

    Args:
        policy: the policy to evaluate.
        codec: the base's tokenizer and template.
        reward_model: on the policy's base; chooses the best of n. Its judges, which learned from other pairs than those
            that steered the training, compare the answers; without any, it does so itself.
        prompts: prompts held out from training.
        config: how answers are sampled, and how many; the KL is measured at their temperature.
        seed: the same seed gives the same answers.
        reference: where the KL is measured from; None is the base.
        champion: the version to beat (a transformers PreTrainedModel); None is the base.
        on_answers: called before each batch of prompts and at the end.
    """
    if not prompts:
        return PolicyEvaluation()
    examiner = Examiner(policy, codec, reward_model, reference, config, seed)
    pool = config.best_of or (64 if _parameters(policy.base.model) < _SMALL_MODEL else 16)
    pooled = min(_POOL_PROMPTS, max(1, _POOL_ANSWERS // pool))
    mine, bases, pools = Answers(), Answers(), Answers()
    champions = bases if champion is None else Answers()
    base_model, champion_model = policy.base.model, Reference.on_trunk(policy, champion).model
    ids = codec.encode_prompts([record.prompt for record in prompts])
    for start in range(0, len(ids), _BATCH):
        if on_answers:
            on_answers(start, len(ids))
        part = ids[start : start + _BATCH]
        examiner.ask_policy(mine, part, start)
        examiner.ask_base(bases, part, start)
        if champion is not None:
            examiner.ask(champion_model, champions, part, start, "champion", config.evaluation_answers)
        if start < pooled:
            examiner.ask(base_model, pools, part[: pooled - start], start, "pool", pool)
    if on_answers:
        on_answers(len(ids), len(ids))
    return PolicyEvaluation(
        evaluated_prompts=len(prompts),
        answers_per_prompt=config.evaluation_answers,
        kl_nats=mine.mean("kl"),
        kl_from_base_nats=mine.mean("kl from base"),
        **_compared("win_rate_vs_base", "win_rate_interval", mine, bases),
        **_compared("win_rate_vs_champion", "champion_interval", mine, champions),
        **_variety(mine, bases, config.evaluation_answers),
        **_best_of_n(mine, bases, pools),
        **_against_references(codec, reward_model, prompts, mine, bases),
        examples=_examples(prompts, bases, champions, mine),
    )


def _parameters(model: Any) -> int:
    return sum(value.numel() for value in model.parameters())


def _compared(rate: str, interval: str, ours: Answers, theirs: Answers) -> dict[str, Any]:
    """The win rate and its interval by prompt, under these names."""
    shares = win_shares(ours.judged, theirs.judged).mean(dim=1)
    if len(shares) < 2:
        return {rate: float(shares.mean()), interval: (0.0, 1.0)}
    mean, low, high = mean_with_interval(shares)
    return {rate: float(mean), interval: (float(low), float(high))}


def _variety(mine: Answers, bases: Answers, answers: int) -> dict[str, Any]:
    """Length, entropy and variety; across prompts by one answer to each."""
    firsts, base_firsts = mine.tokens[::answers], bases.tokens[::answers]
    padded, base_padded = _padded(firsts), _padded(base_firsts)
    return {
        "answer_tokens": _mean_length(mine.tokens),
        "base_answer_tokens": _mean_length(bases.tokens),
        "entropy_nats": mine.mean("entropy"),
        "base_entropy_nats": bases.mean("entropy"),
        "distinct_1": distinct_share(*padded, 1),
        "distinct_2": distinct_share(*padded, 2),
        "base_distinct_2": distinct_share(*base_padded, 2),
        "similarity": similarity(firsts),
        "base_similarity": similarity(base_firsts),
        "repetition": repetition(*_padded(mine.tokens)),
        "blank_share": sum(not text for text in mine.texts) / len(mine.texts),
    }


def _best_of_n(mine: Answers, bases: Answers, pools: Answers) -> dict[str, Any]:
    """Best-of-n of the base, the policy's figures on the same prompts, and the verdict."""
    scores, judged = pools.scores, pools.judged
    if scores.shape[1] < 2:
        return {}
    same = len(scores)
    variance = float(scores.double().var(dim=1).mean())
    spread = variance**0.5 if variance > 1e-12 else 1.0
    curve = best_of_n_curve(scores, judged, bases.judged[:same], spread)
    gain = float((mine.scores[:same] - scores.mean(dim=1, keepdim=True)).mean()) / spread
    win_rate = float(win_shares(mine.judged[:same], bases.judged[:same]).mean())
    sentence = verdict(curve, mine.mean("kl from base"), win_rate)
    return {"best_of_n": curve, "gain_on_pool": gain, "win_rate_on_pool": win_rate, "verdict": sentence}


def _against_references(
    codec: TextCodec, reward_model: RewardModel, prompts: Sequence[PromptRecord], mine: Answers, bases: Answers
) -> dict[str, Any]:
    """Win rates against the reference answers and ROUGE, by the first answer to each prompt."""
    known = [(row, record.prompt, record.reference) for row, record in enumerate(prompts) if record.reference]
    if not known:
        return {}
    rows, texts, references = (list(column) for column in zip(*known, strict=True))
    scores = reward_model.score_texts(codec, texts, references, judge=True)
    found: dict[str, Any] = {}
    for prefix, answers in (("", mine), ("base_", bases)):
        per_prompt = answers.judged.shape[1]
        wins = float(win_shares(answers.judged[rows, :1], scores[:, None]).sum())
        found[f"{prefix}win_rate_vs_reference"] = accuracy_with_interval(wins, len(rows))[0]
        found[f"{prefix}rouge"] = rouge([answers.texts[row * per_prompt] for row in rows], references)
    return found


def _examples(prompts: Sequence[PromptRecord], *answers: Answers) -> tuple[Example, ...]:
    """The first answer of base, champion and policy to the first prompts."""
    found = []
    for row, record in enumerate(prompts[:_EXAMPLES]):
        base, champion, policy = (each.texts[row * each.judged.shape[1]] for each in answers)
        scores = (float(each.judged[row, 0]) for each in answers)
        found.append(Example(prompt_in_words(record.prompt), base, champion, policy, *scores))
    return tuple(found)


def _mean_length(rows: Sequence[Sequence[int]]) -> float:
    return sum(map(len, rows)) / len(rows)


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Tokens and mask (B, T), padded on the right."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return tokens, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
