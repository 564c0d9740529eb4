"""One model version in memory: samples answer pairs and scores answers. Immutable once loaded."""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from ml_backend.lines import ProjectSettings
from ml_backend.registry import read_record
from ml_backend.serving.salvage import salvaged
from ml_backend.serving.selection import Drawn, How, pick
from ml_backend.settings import Selection, Settings
from training.config import SamplingConfig
from training.data import Message, Prompt
from training.errors import DataError, RankloopError
from training.models import RewardModel, TextCodec, load_causal_lm, share_equal_weights
from training.sampling import Sampler

ATTEMPTS = 4
"""How often a pair is sampled until both answers say something, and not the same."""
ATTEMPTS_TO_END = 2
"""How often an answer is sampled until it ends by itself; then it is shown cut off, and marked."""

logger = logging.getLogger(__name__)

Question = tuple[str, Prompt]
"""(key, prompt); the key seeds the sampling."""
Answer = tuple[Prompt, str]
"""(prompt, answer)."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to one prompt in display order, and the name of the version that generated them.

    `cut` says of each answer whether it was cut off at the length limit. `authors` are the versions that wrote them,
    where two versions are compared, and `version` is the name that belongs to both. `how` says how the pair was chosen
    from several candidates; None where it is simply what was drawn.
    """

    answer1: str
    answer2: str
    version: str
    cut: tuple[bool, bool] = (False, False)
    authors: tuple[str, str] | None = None
    how: How | None = None

    @property
    def flawed(self) -> bool:
        """Whether there is nothing to compare: an answer is empty, or both are equal but for their spacing. Such a pair
        isn't proposed.
        """
        return not self.answer1 or not self.answer2 or self.answer1.split() == self.answer2.split()


class Scorer:
    """A version's reward model, loaded on first use; it shares the base's frozen layers."""

    def __init__(self, folder: Path, base: Callable[[], Any]) -> None:
        self._folder = folder
        self._base = base

    @cached_property
    def model(self) -> RewardModel:
        """The reward model."""
        return RewardModel.load(self._folder, self._base())


@dataclass(frozen=True, slots=True, eq=False)
class LoadedVersion:
    """A policy with its tokenizer and, except for the base, its reward model, which chooses pairs from `candidates`.

    Not thread-safe: `FairBatcher` calls it from a single thread.
    """

    name: str
    codec: TextCodec
    sampler: Sampler
    sampling: SamplingConfig
    scorer: Scorer | None = None
    selection: Selection = "random"
    candidates: int = 2

    def told(self, settings: ProjectSettings) -> LoadedVersion:
        """The same version, answering as a project's own settings say.

        Raises:
            ModelError: it is to be told a system prompt, but has no chat template.
        """
        if settings.max_new_tokens is None and settings.system_prompt is None:
            return self
        codec = self.codec if settings.system_prompt is None else self.codec.told(settings.system_prompt)
        return replace(self, codec=codec, sampling=self.sampling.changed(max_new_tokens=settings.max_new_tokens))

    def named(self, name: str) -> LoadedVersion:
        """The same weights as a version with another name."""
        return replace(self, name=name)

    @property
    def judges(self) -> bool:
        """Whether it has a reward model."""
        return self.scorer is not None

    def propose(self, questions: Sequence[Question]) -> list[AnswerPair]:
        """Sample two answers to each prompt. The same key and prompt always get the same pair.

        Empty and equal answers are sampled again a few times; if that doesn't help, the pair is `flawed`, and not to be
        shown. An answer that reaches the length limit is sampled once again, then marked as cut.

        Args:
            questions: (key, prompt) pairs; the key, e.g. a task's id, seeds the sampling.

        Returns:
            One pair per question; both answers are empty if the model fails on that prompt, though not on the others.
        """
        return salvaged(self._propose, questions, lambda _: AnswerPair("", "", self.name))

    def _propose(self, questions: Sequence[Question]) -> list[AnswerPair]:
        return fair_pairs(self.name, questions, self._sample)

    def log_odds(self, answers: Sequence[Answer]) -> list[float]:
        """Score (prompt, answer) pairs with the reward model.

        The sigmoid of the difference between two answers' scores is the calibrated probability that people prefer the
        first. Answers that the model fails on, though not on the others, score NaN.

        Raises:
            ValueError: this version has no reward model; check `judges` first.
            ModelError: the reward model can't be loaded.
        """
        if self.scorer is None:
            raise ValueError(f"{self.name} has no reward model")
        model = self.scorer.model

        def scores(some: Sequence[Answer]) -> list[float]:
            prompts, texts = zip(
                *[(_readable_prompt(prompt), _readable(answer)) for prompt, answer in some], strict=True
            )
            return [score / model.temperature for score in model.score_texts(self.codec, prompts, texts).tolist()]

        return salvaged(scores, answers, lambda _: math.nan)

    def _sample(self, questions: Sequence[Question], attempt: int) -> list[AnswerPair]:
        drawn = self.draw(questions, attempt, self._candidates)
        known = [(prompt, text) for (_, prompt), answers in zip(questions, drawn, strict=True) for text, _ in answers]
        scores = iter(self._scores(known))
        return [
            self._chosen(key, answers, list(islice(scores, len(answers)))) if answers else AnswerPair("", "", self.name)
            for (key, _), answers in zip(questions, drawn, strict=True)
        ]

    def draw(self, questions: Sequence[Question], attempt: int, answers: int) -> list[list[Drawn]]:
        """Sample some answers to each prompt; none to one that the chat template refuses.

        Args:
            questions: (key, prompt) pairs.
            attempt: each gives others.
            answers: how many each.
        """
        prompts = self._encoded([_readable_prompt(prompt) for _, prompt in questions])
        asked = [(key, ids) for (key, _), ids in zip(questions, prompts, strict=True) if ids]
        seeds = [self._seed(key, f"answer {which} try {attempt}") for key, _ in asked for which in range(answers)]
        samples = self.sampler.sample([ids for _, ids in asked], self.sampling, seeds=seeds, answers_per_prompt=answers)
        # PostgreSQL (under Label Studio) can't store NUL characters: one would fail the whole import
        texts = [self.codec.decode_answer(tokens).replace("\x00", "").strip() for tokens in samples.answers()]
        drawn = iter(zip(texts, (not ended for ended in samples.ended.tolist()), strict=True))
        return [[next(drawn) for _ in range(answers)] if ids else [] for ids in prompts]

    @property
    def _candidates(self) -> int:
        """How many answers to a prompt a pair is chosen from."""
        return self.candidates if self.judges and self.selection != "random" else 2

    def _scores(self, answers: Sequence[Answer]) -> list[float]:
        """Scores of candidates; none where pairs are as they are drawn, or the reward model fails."""
        if self._candidates == 2 or not answers:
            return []
        try:
            return self.log_odds(answers)
        except RankloopError as error:
            logger.warning("%s: pairs are chosen at random, as candidates can't be scored: %s", self.name, error)
            return []

    def _encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Prompts as tokens; one that the chat template refuses is empty, and costs the others nothing."""
        try:
            return self.codec.encode_prompts(prompts)
        except DataError as error:
            if len(prompts) == 1:
                logger.warning("%s: %s", self.name, error)
                return [[]]
            return [self._encoded([prompt])[0] for prompt in prompts]

    def _chosen(self, key: str, drawn: Sequence[Drawn], scores: Sequence[float]) -> AnswerPair:
        if len(drawn) == 2:
            return self._shown(key, drawn[0], drawn[1])
        dice = random.Random(self._seed(key, "selection"))  # noqa: S311  # no secret
        return self._shown(key, *pick(drawn, scores, self.selection, dice))

    def _shown(self, key: str, first: Drawn, second: Drawn, how: How | None = None) -> AnswerPair:
        """Shuffle which answer is on the left, so that a bias towards a side teaches nothing."""
        if self._seed(key, "side") % 2:
            first, second = second, first
        return AnswerPair(first[0], second[0], self.name, (first[1], second[1]), how=how)

    def _seed(self, key: str, purpose: str) -> int:
        return seed_of(key, self.name, purpose)


def seed_of(key: str, name: str, purpose: str) -> int:
    """A seed for one purpose of one version on one task; torch's generators take 63 bits."""
    digest = hashlib.blake2b(f"{key}\n{name}\n{purpose}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def fair_pairs(
    name: str, questions: Sequence[Question], sample: Callable[[Sequence[Question], int], list[AnswerPair]]
) -> list[AnswerPair]:
    """Pairs of answers, sampled again a few times where they are flawed or cut off.

    Args:
        name: who samples, for the log.
        questions: (key, prompt) pairs.
        sample: returns a pair for each question, another one with each attempt.
    """
    pairs = sample(questions, 0)
    for attempt in range(1, ATTEMPTS):
        ends = attempt >= ATTEMPTS_TO_END
        again = [index for index, pair in enumerate(pairs) if pair.flawed or (any(pair.cut) and not ends)]
        if not again:
            break
        for index, pair in zip(again, sample([questions[i] for i in again], attempt), strict=True):
            pairs[index] = _better(pairs[index], pair)
    flaws = sum(pair.flawed for pair in pairs)
    if flaws:
        logger.warning(
            "%s: %d of %d pairs are left out: still empty or equal after %d tries, or the chat template refuses "
            "their prompt", name, flaws, len(pairs), ATTEMPTS,
        )  # fmt: skip
    return pairs


def load_version(
    name: str, folder: Path, settings: Settings, base: Callable[[], Any] | None = None, *, share: bool = False
) -> LoadedVersion:
    """Load a version as it was trained: with its own text settings, sampling and precision, which its folder carries.

    Args:
        name: the version's name.
        folder: its artifacts (`policy/`, and `reward/` if it has a reward model), as fetched from the registry.
        settings: the device, and what replaces the version's own sampling and precision.
        base: returns the base model that the reward model is built on, called when the first score is needed; None
            loads it from the settings' model.
        share: hold weights that equal the base's only once in memory.

    Raises:
        ModelError: the policy can't be loaded.
    """
    record = read_record(folder, settings.cycle_config)
    sampling = settings.sampling(record.sampling)
    policy = str(folder / "policy")
    model = load_causal_lm(policy, settings.device)
    if share and base is not None:
        share_equal_weights(model, base())
    model.requires_grad_(requires_grad=False)
    positions = getattr(model.config, "max_position_embeddings", None)
    codec = TextCodec.load(policy, record.text.leaving_room(positions, sampling.max_new_tokens))
    precision = settings.proposal_precision if "proposal_precision" in settings.model_fields_set else record.precision
    sampler = Sampler(model, end_ids=codec.end_ids, pad_id=codec.pad_id, precision=precision)
    reward = folder / "reward"
    base = base or partial(load_causal_lm, settings.model, settings.device)
    scorer = Scorer(reward, base) if reward.is_dir() else None
    return LoadedVersion(name, codec, sampler, sampling, scorer, settings.selection, settings.candidates)


def _better(before: AnswerPair, after: AnswerPair) -> AnswerPair:
    """Of two draws of a pair the one that can be shown, with fewer answers cut off; else the first."""
    if before.flawed or after.flawed:
        return before if after.flawed else after
    return after if sum(after.cut) < sum(before.cut) else before


def _readable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain but no tokenizer accepts, with question marks."""
    return text.encode("utf-8", "replace").decode()


def _readable_prompt(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return _readable(prompt)
    return tuple(Message(turn.role, _readable(turn.content)) for turn in prompt)
