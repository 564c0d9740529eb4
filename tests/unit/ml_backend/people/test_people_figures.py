"""The figures about each person, and the document they are told in, against tables worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from people_votes import swapped, vote, votes

from ml_backend.people import people_document
from ml_backend.people.agreement import exact_interval
from training.data.types import Judgement
from training.data.votes import PairKey
from training.evaluation import accuracy_with_interval

AT = "2026-01-01T00:00:00+00:00"
TABLE = [*votes("x", "ll-t"), *votes("y", "lrrl"), *votes("z", "l-rl")]


def _document(judgements: list[Judgement], scores: dict[PairKey, float] | None = None) -> dict[str, Any]:
    found = people_document(judgements, scores or {}, AT)
    json.dumps(found, allow_nan=False)
    return found


def _people(judgements: list[Judgement], scores: dict[PairKey, float] | None = None) -> dict[str, dict[str, Any]]:
    return {person["annotator"]: person for person in _document(judgements, scores)["people"]}


def _pair(number: int) -> PairKey:
    """The key of a pair: "that" comes first in the alphabet, and stands right."""
    return f"prompt {number}", "that", "this"


def test_the_line_as_a_whole() -> None:
    """What the document says of all people together."""
    found = _document(TABLE)
    counts = {name: found[name] for name in ("computed_at", "judgements", "pairs", "shared_pairs")}
    assert counts == {"computed_at": AT, "judgements": 10, "pairs": 4, "shared_pairs": 4}
    assert (found["alpha"], found["pairwise"]) == (pytest.approx(1 / 3), pytest.approx(5 / 8))
    assert found["warnings"] == []
    assert [person["annotator"] for person in found["people"]] == ["y", "x", "z"]


def test_agreement_with_the_others() -> None:
    """A pair counts once, by the share of the others who said the same: x agrees on 1, 0 and 0 of three pairs, y on 1,
    0, 1 and a half of four, z on 1, 1 and a half of three.
    """
    people = _people(TABLE)
    for name, agreed, pairs in (("x", 1.0, 3), ("y", 2.5, 4), ("z", 2.5, 3)):
        assert people[name]["agreement"] == pytest.approx(agreed / pairs)
        assert people[name]["agreement_pairs"] == pairs
        assert people[name]["agreement_interval"] == pytest.approx(list(accuracy_with_interval(agreed, pairs)[1]))


def test_agreement_with_the_reward_model() -> None:
    """Of five pairs: one is a tie, one has no score, and of the others two are judged as scored, one the other way."""
    scores = {_pair(0): -2.0, _pair(1): 0.3, _pair(2): 0.5, _pair(3): 4.0}
    (person,) = _people(votes("x", "lrltr"), scores).values()
    assert (person["with_reward_model"], person["with_reward_model_pairs"]) == (pytest.approx(2 / 3), 3)
    assert person["with_reward_model_interval"] == pytest.approx(list(exact_interval(2, 3) or ()))
    (other,) = _people([swapped(one) for one in votes("x", "lrltr")], scores).values()
    assert other["with_reward_model"] == pytest.approx(2 / 3)


def test_sides_ties_and_seconds() -> None:
    """Left in 3 of 4 verdicts for a side; one tie of five; the median of 4, 6 and 20 seconds."""
    judgements = [
        vote("x", 1, "l", lead_time=4.0),
        vote("x", 2, "l", lead_time=20.0),
        vote("x", 3, "l", lead_time=6.0),
        vote("x", 4, "r", lead_time=None),
        vote("x", 5, "t", lead_time=0.0),
    ]
    (person,) = _people(judgements).values()
    assert (person["left_share"], person["ties"], person["seconds_median"]) == (0.75, 0.2, 6.0)
    assert person["left_interval"] == pytest.approx(list(exact_interval(3, 4) or ()))


def test_a_ranking_is_one_annotation_without_sides() -> None:
    """Its pairs share seconds and a preselection, and the better answer always comes first in them."""
    shared = {"sides": None, "lead_time": 30.0, "untouched": True}
    ranking = [vote("x", number, "l", **shared) for number in range(3)]
    from dataclasses import replace

    judgements = [replace(one, annotation_id=77) for one in ranking] + [vote("x", 9, "r", lead_time=2.0)]
    (person,) = _people(judgements).values()
    assert (person["judgements"], person["seconds_median"], person["untouched_share"]) == (4, 16.0, 1.0)
    assert (person["left_share"], person["ties"]) == (0.0, 0.0)


def test_untouched_counts_what_had_something_preselected() -> None:
    """Of three tasks with a preselection, two are submitted as they were."""
    marks = (True, True, False, None)
    judgements = [vote("x", number, "l", untouched=mark) for number, mark in enumerate(marks)]
    (person,) = _people(judgements).values()
    assert person["untouched_share"] == pytest.approx(2 / 3)


def test_agreement_with_themself() -> None:
    """One pair is shown again the other way round, with the same answer preferred; another thrice, with two twos of
    verdicts unequal: on average (1 + 1/3) / 2.
    """
    judgements = [
        vote("x", 1, "l"),
        swapped(vote("x", 1, "l")),
        vote("x", 2, "l"),
        vote("x", 2, "l"),
        vote("x", 2, "t"),
        vote("x", 3, "r"),
    ]
    (person,) = _people(judgements).values()
    assert (person["self_agreement"], person["repeated_pairs"]) == (pytest.approx(2 / 3), 2)
    assert (person["agreement"], person["agreement_pairs"]) == (None, 0)


def test_nobody_and_one_person() -> None:
    """There is a document before there is anything to say, and it claims nothing."""
    nobody = _document([])
    assert (nobody["judgements"], nobody["people"], nobody["warnings"]) == (0, [], [])
    one = _document(votes("x", "lrl"))
    assert one["warnings"] == ["One person judged everything, so nothing is known about how far people agree."]
    (person,) = one["people"]
    unknown = ("agreement", "agreement_interval", "with_reward_model", "with_reward_model_interval", "seconds_median")
    assert {person[name] for name in (*unknown, "untouched_share", "self_agreement")} == {None}


def test_two_people_who_share_nothing() -> None:
    """The document says what to do, so that agreement can be known."""
    found = _document([*votes("x", "lrl"), *votes("y", "lrl", first=10)])
    assert found["warnings"][0].startswith("No pair was judged by two people")


def test_all_ties() -> None:
    """Nobody chose a side, everybody agrees, and that is all that can be said."""
    found = _document([*votes("x", "tttttt"), *votes("y", "tttttt")])
    assert (found["alpha"], found["pairwise"]) == (None, 1.0)
    assert [(person["left_share"], person["ties"]) for person in found["people"]] == [(None, 1.0), (None, 1.0)]
