"""How much better a version's answers are on held-out prompts, by the annotator's taste without noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_backend.demo.taste import Taste
from ml_backend.settings import Settings

ANSWERS_PER_PROMPT = 2
_SEEDS_PER_SET = 1_000_000


@dataclass(frozen=True, slots=True)
class FreshAnswers:
    """Answers sampled only for the evaluation, grouped by prompt.

    texts: what they say.
    answer_tokens: their mean length, including the end of text.
    cut: which of them were cut off at the length limit.
    """

    texts: tuple[str, ...]
    answer_tokens: float
    cut: tuple[bool, ...] = ()

    @property
    def cut_share(self) -> float:
        """Share of the answers that were cut off."""
        return sum(self.cut) / len(self.texts)

    @property
    def distinct_words(self) -> int:
        """How many different words all answers have: a policy that says the same to everybody has few."""
        return len({word for text in self.texts for word in re.findall(r"[\w']+", text.lower())})


@dataclass(frozen=True, slots=True)
class Shares:
    """Wins / (wins + losses), 0.5 if there are neither, and ties / all."""

    preferred: float
    tied: float


def fresh_answers(version: str, folder: Path, settings: Settings, prompts: Sequence[str], *, draw: int) -> FreshAnswers:
    """Sample a version's answers as the backend does for annotators.

    Args:
        version: its name.
        folder: its artifacts.
        settings: where it computes, and what replaces its own sampling.
        prompts: N of them; `ANSWERS_PER_PROMPT` answers each.
        draw: different draws are independent.
    """
    from ml_backend.serving import load_version

    loaded = load_version(version, folder, settings)
    ids = loaded.codec.encode_prompts(prompts)
    first = draw * _SEEDS_PER_SET
    seeds = range(first, first + len(ids) * ANSWERS_PER_PROMPT)
    samples = loaded.sampler.sample(ids, loaded.sampling, seeds=seeds, answers_per_prompt=ANSWERS_PER_PROMPT)
    answers = samples.answers()
    texts = tuple(loaded.codec.decode_answer(tokens) for tokens in answers)
    cut = tuple(not ended for ended in samples.ended.tolist())
    return FreshAnswers(texts, sum(len(tokens) for tokens in answers) / len(answers), cut)


def compare(prompts: Sequence[str], ours: FreshAnswers, theirs: FreshAnswers, taste: Taste) -> Shares:
    """How often `ours` is preferred to `theirs`. Sides alternate, so that a bias towards one side cancels out."""
    wins = losses = ties = 0
    for index, (own, other) in enumerate(zip(ours.texts, theirs.texts, strict=True)):
        prompt = prompts[index // ANSWERS_PER_PROMPT]
        swapped = index % 2 == 1
        choice = taste(prompt, other, own) if swapped else taste(prompt, own, other)
        if choice == "tie":
            ties += 1
        elif (choice == "1") != swapped:
            wins += 1
        else:
            losses += 1
    decided = wins + losses
    return Shares(wins / decided if decided else 0.5, ties / (decided + ties))
