"""Warnings about people: who earns one, and who doesn't."""

from __future__ import annotations

import random
from typing import Any

import pytest
from people_votes import vote, votes

from ml_backend.people import people_document
from training.data.types import Judgement

TRUTH = "lrrlrllrlrrlllrrlrlrrllrrlrlrllrrlrlrlrl"
"""What is true of forty pairs; the better answer stands on either side as often."""


def _warnings(judgements: list[Judgement]) -> dict[str, list[str]]:
    found = people_document(judgements, {}, "2026-01-01T00:00:00+00:00")
    return {person["annotator"]: person["warnings"] for person in found["people"]}


def _mostly(said: str, wrong_every: int) -> str:
    """The verdicts with each so many-th the other way."""
    return "".join(_other(mark) if place % wrong_every == 0 else mark for place, mark in enumerate(said))


def _other(mark: str) -> str:
    return {"l": "r", "r": "l"}[mark]


def _timed(annotator: str, said: str, seconds: float, **more: Any) -> list[Judgement]:
    """Verdicts that took about as long each."""
    return [vote(annotator, place, mark, lead_time=seconds + place % 5 / 10, **more) for place, mark in enumerate(said)]


def test_three_people_as_they_are() -> None:
    """One always chooses left, one is careful, one clicks anything in two seconds: two warnings in words.

    The careless one agrees with nobody, but neither do the others with each other: who always chooses left is no
    yardstick, so the careless one's agreement is compared with guessing.
    """
    careless = "llrr" * 10
    judgements = [*_timed("left", "l" * 40, 18), *_timed("careful", TRUTH, 21), *_timed("fast", careless, 2)]
    found = _warnings(judgements)
    assert found["left"] == [
        "Chooses the left answer in 40 of 40 judgements; as answers are shuffled, about half would be expected. "
        "Do they read both?"
    ]
    assert found["careful"] == []
    (said,) = found["fast"]
    assert said.startswith("Takes 2 seconds for a judgement, where the others take 20, and agrees with the others on ")
    assert said.endswith("% of 40 pairs, which guessing would reach as well (50%).")


def test_people_who_agree_among_themselves_are_the_yardstick() -> None:
    """With two careful people who agree on 90%, a fast third one who agrees on half is told what they reach."""
    judgements = [
        *_timed("a", TRUTH, 21),
        *_timed("b", _mostly(TRUTH, 10), 19),
        *_timed("fast", "llrr" * 10, 2),
    ]
    found = _warnings(judgements)
    assert found["a"] == found["b"] == []
    assert found["fast"][0].endswith("they among themselves on 90%.")


def test_being_fast_is_no_fault() -> None:
    """Nor is disagreeing: only who is fast and disagrees is asked about."""
    fast = [*_timed("a", TRUTH, 21), *_timed("b", TRUTH, 19), *_timed("fast", _mostly(TRUTH, 10), 2)]
    slow = [*_timed("a", TRUTH, 21), *_timed("b", TRUTH, 19), *_timed("other", "llrr" * 10, 20)]
    assert set(map(tuple, _warnings(fast).values())) == {()}
    assert set(map(tuple, _warnings(slow).values())) == {()}


def test_few_judgements_prove_nothing() -> None:
    """Six left in a row happen to anybody now and then, once there are enough people."""
    assert _warnings(votes("x", "l" * 6)) == {"x": []}
    assert _warnings(votes("x", "l" * 9))["x"] != []  # two in 512, below one in a hundred
    crowd = [one for number in range(9) for one in votes(f"p{number}", "lrlrlrlrl")]
    assert _warnings([*crowd, *votes("x", "l" * 9)])["x"] == []  # with ten people, one in a thousand is asked for


def test_annotations_that_name_nobody_earn_no_warning() -> None:
    """They may be of many people."""
    assert _warnings(votes("unknown", "l" * 40)) == {"unknown": []}


def test_where_the_data_place_the_answers_the_others_are_the_yardstick() -> None:
    """A project whose better answers all stand left makes everybody choose left: nobody is warned. Alone nobody is."""
    everybody = [one for name in ("a", "b", "c") for one in votes(name, "l" * 40, sides="given")]
    assert set(map(tuple, _warnings(everybody).values())) == {()}
    assert _warnings(votes("x", "l" * 40, sides="given")) == {"x": []}
    odd = [*votes("a", TRUTH, sides="given"), *votes("b", TRUTH, sides="given"), *votes("x", "r" * 40, sides="given")]
    found = _warnings(odd)
    assert found["x"] == ["Chooses the right answer in 40 of 40 judgements, where the others do so in 40 of 80."]
    assert found["a"] == found["b"] == []


def test_who_never_disagrees_with_what_is_preselected() -> None:
    """Told where the others disagree with it now and then; the preselection may just be good."""
    never = [*_marked("a", 8), *_marked("b", 8), *_marked("x", 0)]
    assert _warnings(never)["x"] == [
        "Submits what was preselected in 40 of 40 tasks, where the others do so in 64 of 80. Do they look at it?"
    ]
    assert _warnings([*_marked("a", 1), *_marked("x", 0)])["x"] == []
    assert _warnings(_marked("x", 0)) == {"x": []}


def _marked(annotator: str, changed: int) -> list[Judgement]:
    """Forty judgements with a preselection, of which so many were changed."""
    return [vote(annotator, place, mark, untouched=place >= changed) for place, mark in enumerate(TRUTH)]


def test_who_contradicts_themself() -> None:
    """Twelve pairs again, and another verdict on nine of them; on two of them is nothing to speak of."""
    again = [*votes("x", TRUTH[:12]), *votes("x", _mostly(TRUTH[:12], 1)[:9] + TRUTH[9:12])]
    assert _warnings(again)["x"] == [
        "Of 12 pairs that they judged again, they said the same on 25%; 80% or more would be expected."
    ]
    assert _warnings([*votes("x", TRUTH[:12]), *votes("x", _mostly(TRUTH[:12], 6))]) == {"x": []}


def test_agreement_by_chance_is_said_of_the_line() -> None:
    """Two people whose verdicts have nothing to do with each other: a warning about the task, not about them."""
    found = people_document([*votes("x", TRUTH), *votes("y", "llrr" * 10)], {}, "2026-01-01T00:00:00+00:00")
    assert found["warnings"][0].startswith("People agree no better than chance would (alpha ")
    assert {tuple(person["warnings"]) for person in found["people"]} == {()}


@pytest.mark.parametrize("people", [2, 5, 20])
def test_warnings_are_rare_where_nothing_is_wrong(people: int) -> None:
    """People who all work alike (agreement about 80%, the same times): in 40 simulated lines, hardly a warning."""
    rng = random.Random(people)
    warned = 0
    for _ in range(40):
        judgements = []
        for number in range(people):
            for place in range(25):
                right = rng.random() < 0.9
                said = "lr"[place % 2] if right else "rl"[place % 2]
                more = {"lead_time": rng.lognormvariate(3, 0.6), "untouched": rng.random() < 0.75}
                judgements.append(vote(f"p{number}", place, said, **more))
        warned += any(_warnings(judgements).values())
    assert warned <= 2
