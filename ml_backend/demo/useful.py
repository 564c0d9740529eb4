"""The demo annotator's taste without noise: useful, on-topic and polite answers.

Only the text is judged. Each sentence is scored, and an answer's score is their mean, so that length in itself is
neither good nor bad:

=====================  ======  =====================================================================================
sentence               score   how it is recognised
=====================  ======  =====================================================================================
advice on the topic     1.0    it shares telling words with the tips of the question's topic
neutral                 0.0    greetings, encouragement, questions back
vague                  -0.5    an empty phrase ("it depends on many things")
advice on another      -0.7    its telling words belong to another topic
rude                   -1.5    an insult or a refusal
=====================  ======  =====================================================================================

Added to the mean: 0.15 for giving a reason along with advice, -1.0 for any rudeness, -2.0 times the share of repeated
words, and -0.3 for breaking off in the middle of a sentence. Scores less than `TIE_MARGIN` apart are a tie.

A word is telling if few topics use it: it counts 1 / (number of topics whose tips have it), and a sentence is about the
topic whose words weigh most. For a question on none of the demo's topics, advice is on topic if it repeats some of the
question's words.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from functools import cache
from typing import Literal

from ml_backend.demo.data.topics import TOPICS_FILE, Topic, load_topics

Choice = Literal["1", "2", "tie"]
TIE_MARGIN = 0.2
EMPTY_SCORE = -5.0  # worse than any text

_ON_TOPIC, _VAGUE, _OFF_TOPIC, _RUDE = 1.0, -0.5, -0.7, -1.5
_REASON_BONUS, _RUDENESS_PENALTY, _REPETITION_PENALTY, _BROKEN_PENALTY = 0.15, 1.0, 2.0, 0.3
_TELLING_WEIGHT = 0.7  # the least total weight for a sentence to be about a topic
_SHORTEST_TELLING_WORD = 3
_COMMONEST_TELLING_WORD = 10  # a word in the tips of more topics than this isn't telling
_REPEATED_RUN = 3  # words in a row
_REASON_WORDS = re.compile(r"\b(because|since)\b|: ")


def prefer_useful(prompt: str, answer1: str, answer2: str) -> Choice:
    """Decide which of two answers is more useful, on topic and polite, from the text alone.

    Args:
        prompt: the question.
        answer1: one answer, however garbled.
        answer2: the other.

    Returns:
        `"1"`, `"2"`, or `"tie"` if they are about equally good.
    """
    difference = score_answer(prompt, answer1) - score_answer(prompt, answer2)
    if abs(difference) < TIE_MARGIN:
        return "tie"
    return "1" if difference > 0 else "2"


def score_answer(prompt: str, answer: str) -> float:
    """Score an answer by the module's table: about 1 for plain advice, -2.5 for plain rudeness."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", answer.strip()) if _words(part)]
    if not sentences:
        return EMPTY_SCORE
    scores = [_score_sentence(prompt, sentence) for sentence in sentences]
    total = sum(scores) / len(scores)
    if _ON_TOPIC in scores and _REASON_WORDS.search(answer):
        total += _REASON_BONUS
    if _RUDE in scores:
        total -= _RUDENESS_PENALTY
    if answer.strip()[-1] not in ".!?":
        total -= _BROKEN_PENALTY
    return total - _REPETITION_PENALTY * repeated_share(answer)


def repeated_share(answer: str) -> float:
    """Share of an answer's runs of three words that are repetitions, from 0 to nearly 1."""
    words = _words(answer)
    runs = [tuple(words[i : i + _REPEATED_RUN]) for i in range(len(words) - _REPEATED_RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def topic_of(prompt: str) -> Topic | None:
    """The demo topic that a question is about, if any."""
    text = " ".join(_words(prompt))
    named = [topic for topic in load_topics() if topic.task in text or topic.doing in text]
    return max(named, key=lambda topic: len(topic.task)) if named else None


def _score_sentence(prompt: str, sentence: str) -> float:
    text = f" {' '.join(_words(sentence))}"
    if _has_cue(text, "rude"):
        return _RUDE
    if _has_cue(text, "vague"):
        return _VAGUE
    topic = topic_of(prompt)
    weights = _topic_weights(sentence, topic)
    if topic is None:
        own = set(_words(prompt)) & set(_words(sentence)) - _small_talk()
        return _ON_TOPIC if any(len(word) > _SHORTEST_TELLING_WORD for word in own) else 0.0
    best_other = max((weight for other, weight in weights.items() if other != topic.task), default=0.0)
    if weights[topic.task] >= max(_TELLING_WEIGHT, best_other):
        return _ON_TOPIC
    return _OFF_TOPIC if best_other >= _TELLING_WEIGHT else 0.0


def _topic_weights(sentence: str, topic: Topic | None) -> defaultdict[str, float]:
    """For each topic (by its task), the weight of the sentence's telling words.

    Naming the question's topic isn't advice on it, so its name is left out.
    """
    text = " ".join(_words(sentence))
    if topic is not None:
        text = text.replace(topic.task, " ").replace(topic.doing, " ")
    weights: defaultdict[str, float] = defaultdict(float)
    for word in set(text.split()):
        tasks = _telling_words().get(word, frozenset())
        for task in tasks:
            weights[task] += 1 / len(tasks)
    return weights


def _has_cue(text: str, kind: str) -> bool:
    """Whether a cue occurs in the text (words after single spaces), possibly as a prefix, like `fool` in `foolish`."""
    return any(f" {cue}" in text for cue in _cues()[kind])


@cache
def _small_talk() -> frozenset[str]:
    return frozenset(_cues()["small_talk"])


@cache
def _cues() -> dict[str, list[str]]:
    """Phrases that mark a sentence as `rude` or `vague`, and words of `small_talk`, which suggest no topic."""
    raw: dict[str, list[str]] = json.loads((TOPICS_FILE.parent / "cues.json").read_text(encoding="utf-8"))
    return raw


@cache
def _telling_words() -> dict[str, frozenset[str]]:
    """Each telling word, with the tasks of the topics whose tips have it."""
    tasks: dict[str, set[str]] = {}
    for topic in load_topics():
        counts = Counter(word for tip in topic.tips for word in _words(f"{tip.action} {tip.reason}"))
        for word in counts:
            if len(word) >= _SHORTEST_TELLING_WORD and word not in _small_talk():
                tasks.setdefault(word, set()).add(topic.task)
    return {word: frozenset(names) for word, names in tasks.items() if len(names) <= _COMMONEST_TELLING_WORD}


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())
