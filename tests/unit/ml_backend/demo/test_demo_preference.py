"""The demo annotator's taste: what it prefers, when it sees no difference, and what must not matter."""

from __future__ import annotations

from collections import defaultdict
from statistics import correlation, mean

import pytest
from demo_answers import Quality
from demo_corpus import Example, write_corpus
from demo_phrases import load_phrases
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.demo.data.topics import load_topics
from ml_backend.demo.useful import EMPTY_SCORE, prefer_useful, repeated_share, score_answer, topic_of

RICE = "How do I cook rice?"
USEFUL = "Rinse the rice until the water runs clear. Keep the lid on while it simmers."


@pytest.fixture(scope="module")
def corpus() -> list[Example]:
    """Answers whose quality is known."""
    return write_corpus(4000, seed=2)


@pytest.mark.parametrize(
    "worse",
    [
        "It depends on many things. There are different ways to do it.",
        "Tune the strings before you play. Practice two chords until they flow.",
        "What a silly question. Figure it out yourself.",
        "Keep the lid on. Keep the lid on. Keep the lid on. Keep the lid on.",
        "Rinse the rice until the water runs clear, you fool. Get lost.",
        "Good luck! Let me know how it goes.",
        "",
        "...",
    ],
)
def test_useful_beats_everything_else(worse: str) -> None:
    """Concrete advice wins over vague, off-topic, rude, repetitive, empty words, in either position."""
    assert prefer_useful(RICE, USEFUL, worse) == "1"
    assert prefer_useful(RICE, worse, USEFUL) == "2"


def test_equally_good_answers_are_a_tie() -> None:
    """Two different pieces of good advice, two vague answers, and an answer and itself are ties."""
    assert prefer_useful(RICE, USEFUL, "Fluff the grains with a fork.") == "tie"
    assert prefer_useful(RICE, "It depends.", "There is no single answer, and time will tell.") == "tie"
    assert prefer_useful(RICE, USEFUL, USEFUL) == "tie"


def test_scores_by_hand() -> None:
    """The module's table: a mean over sentences, plus penalties."""
    assert score_answer(RICE, "Keep the lid on while it simmers.") == pytest.approx(1.0)
    assert score_answer(RICE, "Good luck! Keep the lid on while it simmers.") == pytest.approx(0.5)
    assert score_answer(RICE, "It depends on many things.") == pytest.approx(-0.5)
    assert score_answer(RICE, "Tune the strings before you play.") == pytest.approx(-0.7)
    assert score_answer(RICE, "Don't be so stupid.") == pytest.approx(-1.5 - 1.0)
    assert score_answer(RICE, "Keep the lid on while it simmers") == pytest.approx(1.0 - 0.3)
    assert score_answer(RICE, "Turn the heat down, because a gentle simmer cooks evenly.") == pytest.approx(1.15)
    assert score_answer(RICE, " \n") == EMPTY_SCORE


def test_repeated_share_by_hand() -> None:
    """`a b c a b c` has four runs of three words, of which the last repeats the first."""
    assert repeated_share("a b c a b c") == pytest.approx(0.25)
    assert repeated_share("a b c d e") == 0.0
    assert repeated_share("a b") == 0.0


def test_naming_the_topic_is_no_advice() -> None:
    """A sentence that only repeats the question isn't useful."""
    assert score_answer(RICE, "Cooking rice is easier than it looks.") == 0.0


@pytest.mark.parametrize("form", load_phrases().questions)
def test_every_question_is_recognised(form: str) -> None:
    """Each form of question about each topic leads back to that topic."""
    for topic in load_topics():
        assert topic_of(form.format(task=topic.task, doing=topic.doing)) is topic


def test_a_question_on_no_demo_topic_is_judged_by_its_own_words() -> None:
    """For prompts on other topics, an answer that repeats their words counts as on topic."""
    assert topic_of("Why is the sky blue?") is None
    assert prefer_useful("Why is the sky blue?", "The sky scatters blue light.", "I like turtles.") == "1"


def test_tips_are_never_taken_for_rude_or_vague() -> None:
    """No tip or reason contains a cue, and nearly all are recognised as advice on their topic."""
    scores = [
        score_answer(f"How do I {topic.task}?", f"{text}.")
        for topic in load_topics()
        for tip in topic.tips
        for text in (tip.action, tip.reason)
    ]
    assert min(scores) >= 0
    assert mean(score > 0 for score in scores) > 0.95


def test_it_agrees_with_the_quality_an_answer_was_written_with(corpus: list[Example]) -> None:
    """Useful answers score above zero, others score lower, in nearly every case."""
    scores = defaultdict(list)
    for example in corpus:
        scores[example.quality].append(score_answer(example.prompt, example.answer))
    assert mean(score >= 0.25 for score in scores[Quality.USEFUL]) > 0.95
    for quality in (Quality.VAGUE, Quality.OFF_TOPIC, Quality.RUDE):
        assert mean(score < 0.1 for score in scores[quality]) > 0.97
    assert mean(scores[Quality.REPETITIVE]) < mean(scores[Quality.USEFUL]) - 0.7


def test_it_is_no_preference_for_length(corpus: list[Example]) -> None:
    """Neither the number of words nor of sentences correlates with the score."""
    scores = [score_answer(example.prompt, example.answer) for example in corpus]
    assert abs(correlation(scores, [float(len(example.answer.split())) for example in corpus])) < 0.12
    assert abs(correlation(scores, [float(example.answer.count(".")) for example in corpus])) < 0.12


def test_ties_are_some_but_few(corpus: list[Example]) -> None:
    """Of pairs of answers to the same question, 10 to 22 percent are ties, and the rest are balanced."""
    by_prompt = defaultdict(list)
    for example in corpus:
        by_prompt[example.prompt].append(example.answer)
    choices = [
        prefer_useful(prompt, first, second)
        for prompt, answers in by_prompt.items()
        for first, second in zip(answers[::2], answers[1::2], strict=False)
    ]
    assert 0.10 < choices.count("tie") / len(choices) < 0.22
    assert choices.count("1") / (choices.count("1") + choices.count("2")) == pytest.approx(0.5, abs=0.05)


@given(st.text(), st.text(), st.text())
def test_any_text_is_judged_the_same_from_both_sides(prompt: str, first: str, second: str) -> None:
    """Whatever the texts are, swapping the answers swaps the choice."""
    swapped = {"1": "2", "2": "1", "tie": "tie"}
    assert prefer_useful(prompt, second, first) == swapped[prefer_useful(prompt, first, second)]
