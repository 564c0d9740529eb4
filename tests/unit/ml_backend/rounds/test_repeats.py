"""Judged pairs that are shown once more: made once each, sides swapped, and a person measured against themself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rounds_fake import RoundsProject

from ml_backend.contest import meetings_in
from ml_backend.errors import LabelStudioError
from ml_backend.labels import judgements_from_export, live_prediction, parse_label_config
from ml_backend.lines import Connected, ProjectSettings
from ml_backend.people import people_document
from ml_backend.rounds import Rounds
from ml_backend.rounds.repeats import repeat_key, repeat_of, repeat_prediction
from ml_backend.serving.predictions import predictions_of
from ml_backend.serving.version import AnswerPair
from ml_backend.settings import Settings
from training.data import aggregate

XML = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="answer1"/><Choice value="answer2"/><Choice value="tie"/>
<Choice value="both_bad"/></Choices></View>"""
LIVE = parse_label_config(XML)
PROMPTS = [f"Prompt {number}?" for number in range(1, 41)]


class _Version:
    """Another version, which serves by now and would answer anew."""

    name = "rankloop-v2"
    judges = False

    def propose(self, questions: Sequence[Any]) -> list[AnswerPair]:
        return [AnswerPair("New.", "Newer.", self.name) for _ in questions]

    def log_odds(self, _answers: Sequence[Any]) -> list[float]:
        raise AssertionError


@pytest.fixture
def server() -> RoundsProject:
    """Forty prompts, all judged under version 1."""
    project = RoundsProject(XML)
    project.add(*PROMPTS)
    for number in range(1, len(PROMPTS) + 1):
        project.judge(number, "tie" if number % 5 == 0 else "answer1", "rankloop-v1")
    return project


@pytest.fixture
def rounds(settings: Settings) -> Rounds:
    """With a look-ahead of a hundred tasks."""
    return Rounds(settings.model_copy(update={"propose_ahead": 100}))


def _project(share: float | None = 0.5) -> Connected:
    return Connected(7, "default", ProjectSettings(rounds=1, tries=1, repeats=share), XML)


def _made(server: RoundsProject) -> list[dict[str, Any]]:
    return [task for task in server.listed if repeat_key(task["meta"]) is not None]


def _annotation(verdict: str, answers: Sequence[Any], number: int, **fields: Any) -> dict[str, Any]:
    """Person 5's; `answers` are the regions as they were proposed."""
    choice = {"from_name": "better", "to_name": "question", "type": "choices", "value": {"choices": [verdict]}}
    told = {"id": number, "completed_by": 5, "updated_at": f"2026-01-01T00:00:{number:02}Z", "was_cancelled": False}
    return {**told, "result": [*answers, choice], **fields}


def _task(verdict: str = "answer1", authors: tuple[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    shown = live_prediction(LIVE, "Leaves.", "Water.", "rankloop-v1", cut=(True, False), authors=authors, how="gap")
    found = {"id": 3, "data": {"prompt": "Tea?"}, "meta": {"source": "forum"}, "is_labeled": True}
    return {**found, "annotations": [_annotation(verdict, shown["result"], 1)], **fields}


def _again(task: dict[str, Any]) -> dict[str, Any]:
    """The task that shows its pair once more."""
    found = repeat_of(task, LIVE, 1.0)
    assert found
    return {"id": 9, **found[1]}


def test_by_default_nothing_is_shown_again(rounds: Rounds, server: Any) -> None:
    """No task is added, none is even read, and what is remembered is what it was."""
    for project in (_project(None), _project(0)):
        assert rounds.renew(server, project, "rankloop-v1") == 0
    assert (server.read, len(server.listed)) == (0, 40)


def test_a_share_of_pairs_comes_once_more(rounds: Rounds, server: Any, settings: Settings) -> None:
    """About as many as asked for, the same ones however often it is looked, and none after what was shown again."""
    assert rounds.due(server, _project(), "rankloop-v1")
    count = rounds.renew(server, _project(), "rankloop-v1")
    assert 10 <= count <= 30
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    (settings.home() / "rounds" / "7.json").unlink()
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    for task in _made(server):
        server.judge(task["id"], "answer1", "rankloop-v1")
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    assert len(_made(server)) == count
    assert len({task["data"]["prompt"] for task in _made(server)}) == count


def test_a_greater_share_adds_to_a_smaller_one(rounds: Rounds, server: Any) -> None:
    """Who was drawn stays drawn; a project's 0 holds against the backend's setting."""
    few = rounds.renew(server, _project(0.1), "rankloop-v1")
    more = rounds.renew(server, _project(0.5), "rankloop-v1")
    assert 0 < few < few + more <= 30
    assert len({repeat_key(task["meta"]) for task in _made(server)}) == few + more
    assert rounds.renew(server, _project(0), "rankloop-v1") == 0


@pytest.mark.parametrize("stores", [True, False])
def test_a_request_that_was_cut_off_makes_no_second_task(rounds: Rounds, server: Any, *, stores: bool) -> None:
    """Whether or not Label Studio carried it out, each pair comes once more in the end."""
    server.fault, server.stores_before_fault = LabelStudioError("cut off", status=504), stores
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    rounds.renew(server, _project(), "rankloop-v1")
    rounds.renew(server, _project(), "rankloop-v1")
    keys = [repeat_key(task["meta"]) for task in _made(server)]
    assert len(keys) == len(set(keys)) >= 10


def test_repeats_wait_until_open_tasks_run_low(settings: Settings, server: Any) -> None:
    """With a look-ahead of ten: none while five tasks are open, then as many as there is room for."""
    rounds = Rounds(settings.model_copy(update={"propose_ahead": 10}))
    server.add(*(f"New {number}?" for number in range(5)))
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    server.judge(41, "both_bad", "rankloop-v1")
    assert rounds.renew(server, _project(), "rankloop-v1") == 6


def test_a_repeat_is_no_round(rounds: Rounds, server: Any) -> None:
    """After a promotion each prompt gets its second round once, whatever was shown again before."""
    count = rounds.renew(server, _project(), "rankloop-v1")
    for task in _made(server):
        server.judge(task["id"], "both_bad", "rankloop-v1")
    later = replace(_project(0), settings=ProjectSettings(rounds=2, tries=3, repeats=0))
    assert rounds.renew(server, later, "rankloop-v2") == 40
    assert len(server.listed) == 80 + count


@pytest.mark.parametrize("version", [_Version(), None])
def test_the_pair_stays_with_sides_swapped(version: Any) -> None:
    """Whoever serves: under that name, with each answer's author, round and cut mark, and without how it was chosen."""
    task = _again(_task(authors=("rankloop-v1", "rankloop-v3")))
    assert task["meta"]["source"] == "forum"
    shown = predictions_of([task], LIVE, version)[0] if version else repeat_prediction(task, LIVE, "rankloop-v2")
    assert shown
    left, right = shown["result"]
    assert shown["model_version"] == "rankloop-v2"
    assert [left["from_name"], *left["value"]["text"]] == ["one", "Water."]
    assert [right["from_name"], *right["value"]["text"]] == ["two", "Leaves."]
    assert left["meta"] == {"version": "rankloop-v3", "proposed": "Water.", "round": 1, "repeat": True}
    assert right["meta"]["version"] == "rankloop-v1"
    assert right["meta"]["cut"] is True
    assert "rankloop" not in left["id"] + right["id"]


def test_another_prompt_or_a_damaged_note_gets_an_ordinary_pair() -> None:
    """The pair answers what isn't asked any more; and anybody may change a task's meta."""
    task = _again(_task())
    task["data"] = {"prompt": "Coffee?"}
    damaged = _again(_task())
    damaged["meta"]["rankloop"]["repeat"]["pair"][0] = {"text": 5}
    for shown in predictions_of([task, damaged], LIVE, _Version()):
        assert shown
        assert [region["value"]["text"] for region in shown["result"]] == [["New."], ["Newer."]]


def test_only_a_plain_verdict_of_a_person_is_asked_for_again() -> None:
    """Not what was skipped, called bad, rewritten, isn't done yet, or has no known author; nor a repeat."""
    assert repeat_of(_task("tie"), LIVE, 1.0)
    assert repeat_of(_task(), LIVE, 0.0) is None
    rewritten, skipped, unknown, repeated = _task(), _task(), _task(), _again(_task())
    rewritten["annotations"][0]["result"][0]["value"] = {"text": ["Leaves, dried."]}
    skipped["annotations"][0]["was_cancelled"] = True
    for region in unknown["annotations"][0]["result"][:2]:
        region |= {"id": "somebody's", "meta": {}}
    repeated |= {"annotations": _task()["annotations"]}
    others = [_task("both_bad"), _task(is_labeled=False), _task(data={}), rewritten, skipped, unknown, repeated]
    assert [repeat_of(task, LIVE, 1.0) for task in others] == [None] * len(others)


def _twice(second: str) -> list[Any]:
    """Person 5's judgements of a pair of two versions: its left answer at first, then this verdict."""
    first = _task(authors=("rankloop-v1", "rankloop-v3"))
    again = _again(first)
    (shown,) = predictions_of([again], LIVE, _Version())
    assert shown
    again["annotations"] = [_annotation(second, shown["result"], 2)]
    return judgements_from_export([first, again], LIVE, 7)[0]


@pytest.mark.parametrize(("second", "share"), [("answer2", 1.0), ("answer1", 0.0), ("tie", 0.0)])
def test_a_person_is_measured_against_themself(second: str, share: float) -> None:
    """Choosing the same text on the other side is agreement; choosing the same side isn't."""
    (person,) = people_document(_twice(second), {}, "2026-01-01T00:00:00+00:00")["people"]
    assert (person["self_agreement"], person["repeated_pairs"]) == (share, 1)
    assert (person["agreement"], person["agreement_pairs"]) == (None, 0)


def test_the_second_verdict_is_neither_a_second_vote_nor_a_side() -> None:
    """Training has one vote, the newest; the sides of the repeat count for nothing, nor does it in a contest."""
    judgements = _twice("answer1")
    assert [(one.sides, one.selection, one.repeat) for one in judgements] == [
        ("shuffled", "gap", False),
        (None, None, True),
    ]
    (preference,) = aggregate(judgements)
    assert (preference.votes, preference.p_chosen, preference.chosen) == (1, 1.0, "Water.")
    (meeting,) = meetings_in(judgements)
    assert meeting.votes == (1.0,)
