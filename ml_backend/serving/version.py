"""One model version in memory: samples answer pairs and scores answers. Immutable once loaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ml_backend.lines import ProjectSettings
from ml_backend.settings import Settings
from training.config import SamplingConfig
from training.data import Message, Prompt
from training.fast import proposal_precision
from training.models import RewardModel, TextCodec, load_causal_lm, share_equal_weights
from training.sampling import Sampler

ATTEMPTS = 4
"""How often a pair is sampled before an empty answer or two equal ones are accepted."""

logger = logging.getLogger(__name__)

Question = tuple[str, Prompt]
"""(key, prompt); the key seeds the sampling."""
Answer = tuple[Prompt, str]
"""(prompt, answer)."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to one prompt in display order, and the version that generated them."""

    answer1: str
    answer2: str
    version: str

    @property
    def flawed(self) -> bool:
        """Whether there is nothing to compare: an answer is empty, or both are equal."""
        return not self.answer1 or not self.answer2 or self.answer1 == self.answer2


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
    """A policy with its tokenizer and, except for the base, its reward model.

    Not thread-safe: `FairBatcher` calls it from a single thread.
    """

    name: str
    codec: TextCodec
    sampler: Sampler
    sampling: SamplingConfig
    scorer: Scorer | None = None
    system_prompt: str | None = None

    def told(self, settings: ProjectSettings) -> LoadedVersion:
        """The same version, answering as a project's own settings say; itself if there are none."""
        if settings.max_new_tokens is None and settings.system_prompt is None:
            return self
        longest = settings.max_new_tokens or self.sampling.max_new_tokens
        sampling = self.sampling.model_copy(update={"max_new_tokens": longest})
        return replace(self, sampling=sampling, system_prompt=settings.system_prompt)

    def named(self, name: str) -> LoadedVersion:
        """The same weights as a version with another name."""
        return replace(self, name=name)

    @property
    def judges(self) -> bool:
        """Whether it has a reward model."""
        return self.scorer is not None

    def propose(self, questions: Sequence[Question]) -> list[AnswerPair]:
        """Sample two answers to each prompt. The same key and prompt always get the same pair.

        Args:
            questions: (key, prompt) pairs; the key, e.g. a task's id, seeds the sampling.
        """
        pairs = self._sample(questions, attempt=0)
        for attempt in range(1, ATTEMPTS):
            flawed = [index for index, pair in enumerate(pairs) if pair.flawed]
            if not flawed:
                break
            again = self._sample([questions[index] for index in flawed], attempt=attempt)
            for index, pair in zip(flawed, again, strict=True):
                pairs[index] = pair
        flaws = sum(pair.flawed for pair in pairs)
        if flaws:
            logger.warning(
                "%s: %d of %d pairs are empty or equal after %d tries", self.name, flaws, len(pairs), ATTEMPTS
            )
        return pairs

    def log_odds(self, answers: Sequence[Answer]) -> list[float]:
        """Score (prompt, answer) pairs with the reward model.

        The sigmoid of the difference between two answers' scores is the calibrated probability that people prefer the
        first.

        Raises:
            ValueError: this version has no reward model; check `judges` first.
            ModelError: the reward model can't be loaded.
        """
        if self.scorer is None:
            raise ValueError(f"{self.name} has no reward model")
        model = self.scorer.model
        prompts, texts = zip(
            *[(_readable_prompt(prompt), _readable(answer)) for prompt, answer in answers], strict=True
        )
        return [score / model.temperature for score in model.score_texts(self.codec, prompts, texts).tolist()]

    def _sample(self, questions: Sequence[Question], *, attempt: int) -> list[AnswerPair]:
        prompts = self.codec.encode_prompts([_readable_prompt(prompt) for _, prompt in questions])
        seeds = [self._seed(key, f"answer {which} try {attempt}") for key, _ in questions for which in (0, 1)]
        samples = self.sampler.sample(prompts, self.sampling, seeds=seeds, answers_per_prompt=2)
        # PostgreSQL (under Label Studio) can't store NUL characters: one would fail the whole import
        texts = [self.codec.decode_answer(tokens).replace("\x00", "") for tokens in samples.answers()]
        return [
            self._shown(key, first, second)
            for (key, _), first, second in zip(questions, texts[::2], texts[1::2], strict=True)
        ]

    def _shown(self, key: str, first: str, second: str) -> AnswerPair:
        """Shuffle which answer is on the left, so that a bias towards one side teaches nothing."""
        if self._seed(key, "side") % 2:
            first, second = second, first
        return AnswerPair(first, second, self.name)

    def _seed(self, key: str, purpose: str) -> int:
        digest = hashlib.blake2b(f"{key}\n{self.name}\n{purpose}".encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest) >> 1  # torch's generators take 63 bits


def load_version(
    name: str, folder: Path, settings: Settings, base: Callable[[], Any] | None = None, *, share: bool = False
) -> LoadedVersion:
    """Load a version according to the settings.

    Args:
        name: the version's name.
        folder: its artifacts (`policy/`, and `reward/` if it has a reward model), as fetched from the registry.
        settings: the sampling parameters and the device.
        base: returns the base model that the reward model is built on, called when the first score is needed; None
            loads it from the settings' model.
        share: hold weights that equal the base's only once in memory.

    Raises:
        ModelError: the policy can't be loaded.
    """
    policy = str(folder / "policy")
    codec = TextCodec.load(policy, settings.cycle_config().text)
    model = load_causal_lm(policy, settings.device)
    if share and base is not None:
        share_equal_weights(model, base())
    precision = proposal_precision(settings.proposal_precision, model.config.hidden_size)
    sampler = Sampler(model, eos_id=codec.eos_id, pad_id=codec.pad_id, precision=precision)
    reward = folder / "reward"
    base = base or partial(load_causal_lm, settings.model, settings.device)
    return LoadedVersion(name, codec, sampler, settings.sampling(), Scorer(reward, base) if reward.is_dir() else None)


def _readable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain but no tokenizer accepts, with question marks."""
    return text.encode("utf-8", "replace").decode()


def _readable_prompt(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return _readable(prompt)
    return tuple(Message(turn.role, _readable(turn.content)) for turn in prompt)
