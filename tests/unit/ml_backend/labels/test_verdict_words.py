"""Names are verdicts, sides or an order only where they say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.labels.verdict_words import bucket_order, is_further, side_named, verdict_called
from training.data.types import Verdict

ONE, TWO, TIE, BAD = Verdict.ANSWER1, Verdict.ANSWER2, Verdict.TIE, Verdict.BOTH_BAD


@pytest.mark.parametrize(
    ("verdict", "names"),
    [
        (ONE, ["1", "A", "left", "first", "One", "a_winner", "Answer A", "answerA", "model_a wins", "the left one"]),
        (ONE, ["I prefer A", "A is much better", "A > B", "1 >> 2", "B < A", "A is better than B", "Option A"]),
        (
            TWO,
            ["2", "Response B", "response_b", "right is better", "b_winner", "B is slightly better", "Output 2 wins"],
        ),
        (TIE, ["tie", "It's a tie", "Both", "both good", "Equal", "About the same", "No preference", "A = B"]),
        (TIE, ["They are equally good", "Both responses are equally good", "draw", "no difference"]),
        (BAD, ["neither", "Both bad", "both_bad", "tie (bothbad)", "None of them", "Both answers are bad"]),
        (None, ["", "better", "answer", "A is worse", "A is worse than B", "not A", "A B", "good", "bad", "unsure"]),
        (None, ["3", "answer 12", "answer3", "safe", "yes", "skip", "can't decide", "Bad", "A or B", "A > A"]),
    ],
)
def test_what_a_choice_says(verdict: Verdict | None, names: list[str]) -> None:
    """Filling words don't matter; a word that isn't known makes it no verdict."""
    assert {name: verdict_called(name) for name in names} == dict.fromkeys(names, verdict)


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (ONE, ["answer1", "response_a", "left", "first", "Text 1", "pairText1", "chosen", "outputA", "model_a"]),
        (TWO, ["answer2", "response_b", "right", "second_answer", "rejected", "resp2"]),
        (None, ["human_answer", "answer", "response_a_model", "answer_a_score", "answer3", "input", "prompt"]),
    ],
)
def test_the_side_that_a_name_is_on(side: Verdict | None, names: list[str]) -> None:
    """A name with more than a noun and a mark is somebody's metadata."""
    assert {name: side_named(name) for name in names} == dict.fromkeys(names, side)


def test_names_beyond_two() -> None:
    """They show that a question isn't about a pair."""
    assert all(map(is_further, ["3", "Three", "answer C", "Response 4", "third"]))
    assert not any(map(is_further, ["1", "two", "tie", "answer", "c-section", "33"]))


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["bad", "good"], ("good", "bad")),
        (["low", "high", "medium"], ("high", "medium", "low")),
        (["tier_2", "tier_1", "tier_10"], ("tier_1", "tier_2", "tier_10")),
        (["score_1", "score_5"], ("score_5", "score_1")),
        (["worst_answers", "best_answers"], ("best_answers", "worst_answers")),
        (["second", "first"], ("first", "second")),
        (["only"], ("only",)),
        ([], ()),
        (["relevant_results", "biased_results"], None),
        (["group_1", "group_2"], None),
        (["good", "good"], None),
        (["good", "other"], None),
        (["1", "tier_1"], None),
    ],
)
def test_the_order_of_buckets(names: list[str], order: tuple[str, ...] | None) -> None:
    """Best first; None where the names don't say."""
    assert bucket_order(names, ["" for _ in names]) == order


def test_titles_tell_the_order_where_names_do_not() -> None:
    """People read the titles."""
    assert bucket_order(["x", "y"], ["Bad answers", "Good answers"]) == ("y", "x")


@given(st.text(max_size=20))
def test_any_text_is_read(text: str) -> None:
    """Nothing is raised, and no text is both a side and a tie."""
    assert verdict_called(text) in {*Verdict, None}
    assert side_named(text) in {ONE, TWO, None}
    assert is_further(text) in (True, False)
    assert bucket_order([text, "best"], [text, text]) is None or text.strip()
