"""The demo model's questions and answers: which questions it may see, and answers of every quality to them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass

from demo_answers import Quality, sentence, write_answer
from demo_phrases import load_phrases

from ml_backend.demo.data.topics import Topic, load_topics

HELD_OUT_PER_TOPIC = 2  # question forms of a topic that the model never sees
LABELING_PER_TOPIC = 5  # question forms of a topic that annotators are shown
QUALITY_WEIGHTS = {
    Quality.USEFUL: 0.44,
    Quality.VAGUE: 0.20,
    Quality.OFF_TOPIC: 0.04,
    Quality.RUDE: 0.18,
    Quality.REPETITIVE: 0.14,
}
"""Answers off the topic are the fewest, since so small a model strays from the topic often enough by itself."""


@dataclass(frozen=True, slots=True)
class Question:
    """One topic asked in one form."""

    topic: Topic
    text: str


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions by their use. `labeling` is a part of `seen`; `held_out` has nothing in common with either."""

    seen: tuple[Question, ...]
    labeling: tuple[Question, ...]
    held_out: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A question, an answer, and the quality the answer was written with."""

    prompt: str
    answer: str
    quality: Quality

    def row(self) -> dict[str, str]:
        """The example as one JSON line has it."""
        return asdict(self)


def ask() -> Questions:
    """Every question, divided by a hash of its text: the same in every build, whatever the seed."""
    seen: list[Question] = []
    labeling: list[Question] = []
    held_out: list[Question] = []
    for topic in load_topics():
        texts = [form.format(task=topic.task, doing=topic.doing) for form in load_phrases().questions]
        questions = [Question(topic, text) for text in sorted(texts, key=_digest)]
        held_out += questions[:HELD_OUT_PER_TOPIC]
        seen += questions[HELD_OUT_PER_TOPIC:]
        labeling += questions[HELD_OUT_PER_TOPIC : HELD_OUT_PER_TOPIC + LABELING_PER_TOPIC]
    # People label in the order of the file, so it is mixed by another hash than that of the split: otherwise all that
    # is trained on would come first, and a first round would have nothing to check a reward model with.
    labeling.sort(key=lambda q: _digest(f"mixed {q.text}"))
    seen, held_out = (sorted(part, key=lambda q: _digest(q.text)) for part in (seen, held_out))
    return Questions(tuple(seen), tuple(labeling), tuple(held_out))


def write_corpus(count: int, seed: int) -> list[Example]:
    """`count` examples on seen questions; no answer comes twice. The same seed gives the same corpus."""
    rng = random.Random(seed)  # noqa: S311 - no secret, and it must be reproducible
    questions = ask().seen
    qualities, weights = list(QUALITY_WEIGHTS), list(QUALITY_WEIGHTS.values())
    examples: list[Example] = []
    known: set[str] = set()
    while len(examples) < count:
        question = questions[len(examples) % len(questions)]
        quality = rng.choices(qualities, weights)[0]
        answer = write_answer(question.topic, quality, rng)
        if answer not in known:
            known.add(answer)
            examples.append(Example(question.text, answer, quality))
    rng.shuffle(examples)
    return examples


def write_tips() -> list[Example]:
    """Every seen question with each of its topic's tips and reasons alone: what belongs to which topic, in short."""
    return [
        Example(question.text, sentence(text), Quality.USEFUL)
        for question in ask().seen
        for tip in question.topic.tips
        for text in (tip.action, tip.reason)
    ]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
