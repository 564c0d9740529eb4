"""Composes answers of a given quality, length and number of sentences."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import StrEnum

from demo_phrases import Clauses, load_phrases

from ml_backend.demo.data.topics import Tip, Topic, load_topics

MIN_WORDS, MAX_WORDS = 4, 46
SENTENCE_COUNT_WEIGHTS = (0.24, 0.27, 0.24, 0.16, 0.09)  # for 1, 2, ... 5 sentences
CANDIDATES = 8  # drafts per desired length, of which the closest is kept
FRAME_SHARE = 0.4  # how often a longer answer opens, or closes, with something that isn't advice
REASON_SHARE = 0.25  # how often a tip is followed by a sentence saying why


class Quality(StrEnum):
    """An answer's strength or flaw."""

    USEFUL = "useful"
    VAGUE = "vague"
    OFF_TOPIC = "off_topic"
    RUDE = "rude"
    REPETITIVE = "repetitive"


def write_answer(topic: Topic, quality: Quality, rng: random.Random) -> str:
    """One answer of `quality` to a question about `topic`.

    The number of sentences and the length are drawn first, the same way for every quality, so that neither reveals
    whether an answer is good.
    """
    count = rng.choices(range(1, len(SENTENCE_COUNT_WEIGHTS) + 1), SENTENCE_COUNT_WEIGHTS)[0]
    wished = rng.uniform(max(MIN_WORDS, 3 * count), min(MAX_WORDS, 15 * count))
    drafts = [" ".join(_WRITERS[quality](topic, count, rng)) for _ in range(CANDIDATES)]
    fitting = [draft for draft in drafts if MIN_WORDS <= len(draft.split()) <= MAX_WORDS]
    if not fitting:
        return write_answer(topic, quality, rng)
    return min(fitting, key=lambda draft: abs(len(draft.split()) - wished))


def sentence(text: str) -> str:
    """`text` with an initial capital, and a full stop unless it already ends in punctuation."""
    text = text.strip()
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def _useful(topic: Topic, count: int, rng: random.Random) -> list[str]:
    return _framed(topic, _advice(topic, count, rng), rng)


def _off_topic(topic: Topic, count: int, rng: random.Random) -> list[str]:
    other = rng.choice([candidate for candidate in load_topics() if candidate is not topic])
    return _framed(topic, _advice(other, count, rng), rng)


def _vague(topic: Topic, count: int, rng: random.Random) -> list[str]:
    return _framed(topic, _remarks(load_phrases().vague, topic, count, rng), rng)


def _rude(topic: Topic, count: int, rng: random.Random) -> list[str]:
    sentences = _remarks(load_phrases().rude, topic, count, rng)
    if count > 1 and rng.random() < 0.3:  # rudeness spoils good advice too
        sentences[rng.randrange(count)] = _advice(topic, 1, rng)[0]
    return sentences


def _repetitive(topic: Topic, count: int, rng: random.Random) -> list[str]:
    phrases = load_phrases()
    tip = rng.choice(topic.tips)
    vague = rng.choice(phrases.vague.clause).format(task=topic.task, doing=topic.doing)
    part = rng.choice((tip.action, tip.action, tip.reason, vague))
    patterns = phrases.within if count == 1 else phrases.again
    sentences = [rng.choice(patterns).format(part=part) for _ in range(count)]
    if count > 1:
        sentences[0] = part
    return _framed(topic, [sentence(text) for text in sentences], rng) if count > 3 else list(map(sentence, sentences))


_WRITERS: dict[Quality, Callable[[Topic, int, random.Random], list[str]]] = {
    Quality.USEFUL: _useful,
    Quality.VAGUE: _vague,
    Quality.OFF_TOPIC: _off_topic,
    Quality.RUDE: _rude,
    Quality.REPETITIVE: _repetitive,
}


def _advice(topic: Topic, count: int, rng: random.Random) -> list[str]:
    """`count` sentences of advice on `topic`; no tip is repeated."""
    phrases = load_phrases()
    tips = rng.sample(topic.tips, len(topic.tips))
    sentences: list[str] = []
    while len(sentences) < count:
        tip, template = tips.pop(), rng.choice(phrases.tip)
        second = tips.pop().action if "{tip2}" in template and len(tips) >= count else ""
        if "{tip2}" in template and not second:
            template = "{tip}"
        sentences.append(_advise(template, topic, tip, second))
        explained = "{reason}" in template or "{tip2}" in template
        if len(sentences) < count and not explained and rng.random() < REASON_SHARE:
            sentences.append(sentence(rng.choice(phrases.reason).format(reason=tip.reason)))
    return sentences


def _advise(template: str, topic: Topic, tip: Tip, second: str) -> str:
    return sentence(template.format(tip=tip.action, tip2=second, reason=tip.reason, task=topic.task, doing=topic.doing))


def _remarks(clauses: Clauses, topic: Topic, count: int, rng: random.Random) -> list[str]:
    chosen = rng.sample(clauses.clause, count)
    sentences = []
    for clause in chosen:
        tail = "" if clause.endswith("?") else rng.choice(clauses.tail)
        text = rng.choice(clauses.lead) + clause + tail
        sentences.append(sentence(text.format(task=topic.task, doing=topic.doing)))
    return sentences


def _framed(topic: Topic, sentences: Sequence[str], rng: random.Random) -> list[str]:
    """`sentences`, with the first or the last occasionally replaced by something personal."""
    phrases = load_phrases()
    framed = list(sentences)
    before = rng.choice((phrases.opening, phrases.feeling))
    after = rng.choice((phrases.closing, phrases.asking, phrases.feeling))
    if len(framed) > 1 and rng.random() < FRAME_SHARE:
        framed[0] = _frame(before, topic, rng)
    if len(framed) > (2 if framed[0] not in sentences else 1) and rng.random() < FRAME_SHARE:
        framed[-1] = _frame(after, topic, rng)
    return framed


def _frame(templates: Sequence[str], topic: Topic, rng: random.Random) -> str:
    return sentence(rng.choice(templates).format(task=topic.task, doing=topic.doing))
