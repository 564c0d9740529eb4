"""The demo model's corpus: the questions it may see, and answers of every quality to them."""

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
"""Off-topic answers are the rarest, since so small a model strays from the topic often enough anyway."""


@dataclass(frozen=True, slots=True)
class Question:
    """One topic asked in one form."""

    topic: Topic
    text: str


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions by use. `labeling` is a subset of `seen`; `held_out` is disjoint from both."""

    seen: tuple[Question, ...]
    labeling: tuple[Question, ...]
    held_out: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A question, an answer, and the answer's quality."""

    prompt: str
    answer: str
    quality: Quality

    def row(self) -> dict[str, str]:
        """The example as a JSON object."""
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
    # People label in file order, so it is shuffled by a different hash than the split's: otherwise all training prompts
    # would come first, and the first round would have no held-out pairs to test a reward model on.
    labeling.sort(key=lambda q: _digest(f"mixed {q.text}"))
    seen, held_out = (sorted(part, key=lambda q: _digest(q.text)) for part in (seen, held_out))
    return Questions(tuple(seen), tuple(labeling), tuple(held_out))


def write_corpus(count: int, seed: int) -> list[Example]:
    """`count` examples on seen questions; no answer is repeated. The same seed gives the same corpus."""
    rng = random.Random(seed)  # noqa: S311 - not a secret, and it must be reproducible
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
    """Every seen question with each single tip and reason of its topic, to teach which belong to which topic."""
    return [
        Example(question.text, sentence(text), Quality.USEFUL)
        for question in ask().seen
        for tip in question.topic.tips
        for text in (tip.action, tip.reason)
    ]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
