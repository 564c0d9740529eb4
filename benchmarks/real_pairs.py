"""Pairs of a real chat model's own answers, and two tastes that people might have: its mood, and how easy it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from training.config import SamplingConfig
from training.data import Preference
from training.models import TextCodec
from training.sampling import Sampler

REAL_SAMPLING = SamplingConfig(top_k=50, top_p=0.95, max_new_tokens=48)
_FORMS = (
    "Write two sentences about {}.",
    "How do you feel about {}?",
    "Write a short review of {}.",
    "Describe {} to a friend in a short message.",
    "Write a diary entry about {}.",
    "Write a complaint or a compliment about {}.",
)
_TOPICS = [
    "a rainy Monday",
    "the neighbour's dog",
    "a school cafeteria",
    "a long train ride",
    "an old bicycle",
    "the city library",
    "a first job",
    "a broken phone",
    "a birthday party",
    "the winter holidays",
    "a crowded beach",
    "homework",
    "the dentist",
    "a new restaurant",
    "an exam",
    "moving to another town",
    "a football match",
    "traffic jams",
    "a village garden",
    "a late delivery",
    "a grandmother's kitchen",
    "a job interview",
    "the night shift",
    "a camping trip",
    "a noisy hotel",
    "a museum visit",
    "a lost wallet",
    "the first snow",
    "a used car",
    "a piano lesson",
    "the morning news",
    "a power cut",
    "an open-air concert",
    "a garden fence",
    "a wedding speech",
    "a chess club",
    "a spring cleaning",
    "the last bus",
    "a cooking class",
    "a mountain hike",
    "a barking alarm clock",
    "a pen friend",
    "a fishing trip",
    "a tax form",
    "a street market",
    "the swimming pool",
    "a paper map",
    "a summer storm",
    "a group project",
    "a quiet Sunday",
    "a flat tyre",
    "an old radio",
    "a school play",
    "the waiting room",
    "a new colleague",
    "a lost suitcase",
    "a home-made cake",
    "the last exam",
    "a neighbour's party",
    "a walk in the fog",
    "a broken lift",
    "a summer job",
]


def real_prompts() -> list[str]:
    """Prompts for a chat model, whose answers differ in mood and difficulty."""
    return [form.format(topic) for topic in _TOPICS for form in _FORMS]


def answers_of(
    base: Any, codec: TextCodec, prompts: Sequence[str], sampling: SamplingConfig, first_seed: int = 0
) -> list[tuple[str, str, str]]:
    """Each prompt with two answers of a model."""
    sampler = Sampler(base, end_ids=codec.end_ids, pad_id=codec.pad_id)
    found = []
    for start in range(0, len(prompts), 25):
        part = prompts[start : start + 25]
        seeds = range(first_seed + 2 * start, first_seed + 2 * (start + len(part)))
        samples = sampler.sample(codec.encode_prompts(part), sampling, seeds=seeds, answers_per_prompt=2)
        texts = [codec.decode_answer(tokens) for tokens in samples.answers()]
        found += list(zip(part, texts[::2], texts[1::2], strict=True))
    return found


def judged(prompt: str, one: str, other: str, taste: Callable[[str], float]) -> Preference:
    """The answer of which the taste thinks more is chosen; half each where it thinks the same of both."""
    first, second = taste(one), taste(other)
    chosen, rejected = (one, other) if first >= second else (other, one)
    return Preference(prompt, chosen, rejected, 0.5 if first == second else 1.0)


def positive() -> Callable[[str], float]:
    """How positive a text is, from -1 to 1, by VADER's lexicon and rules."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


def reading_ease(text: str) -> float:
    """Flesch's reading ease, with groups of vowels for syllables; the higher, the easier."""
    words = re.findall(r"[a-zA-Z']+", text)
    sentences = max(1, len(re.findall(r"[.!?]+", text)))
    if not words:
        return -1000.0
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word.lower()))) for word in words)
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)
