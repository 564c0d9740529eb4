"""Where a judged prompt is due next, and what its next task says."""

from __future__ import annotations

from typing import Any

import pytest

from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction, pair_digest
from ml_backend.rounds.places import made_task, next_place, pairs_shown, place_in
from training.data import split_of

LIVE = parse_label_config("""<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="answer1"/><Choice value="answer2"/><Choice value="both_bad"/>
</Choices></View>""")


def _annotation(verdict: str, version: str = "rankloop-v1", *, skipped: bool = False) -> dict[str, Any]:
    shown = live_prediction(LIVE, f"{version} one", f"{version} two", version)["result"]
    choice = {"type": "choices", "from_name": "better", "to_name": "question", "value": {"choices": [verdict]}}
    return {"result": [*shown, choice], "was_cancelled": skipped}


def _task(*annotations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    data = {"prompt": "What is tea?", "topic": "drinks"}
    return {"id": 5, "data": data, "annotations": list(annotations), "is_labeled": True, **fields}


def _next(task: dict[str, Any], champion: str = "rankloop-v2", rounds: int = 2, tries: int = 3) -> Any:
    place = next_place(task, LIVE, champion=champion, rounds=rounds, tries=tries)
    return (place.round, place.attempt) if place else None


@pytest.mark.parametrize(
    ("champion", "due"),
    [("rankloop-v1", None), ("rankloop-v2", (2, 1)), ("rankloop-v10", (2, 1)), ("rankloop.other-v1", None)],
)
def test_the_next_round_waits_for_a_newer_version(champion: str, due: Any) -> None:
    """The version that wrote the pair gives no second one; numbers are compared as numbers."""
    assert _next(_task(_annotation("answer1")), champion) == due


def test_after_a_rollback_an_older_version_is_not_newer() -> None:
    """A pair of version 3 isn't followed by one of version 2."""
    assert _next(_task(_annotation("answer1", "rankloop-v3")), "rankloop-v2") is None


def test_one_round_is_one_round() -> None:
    """By default a judged prompt is done."""
    assert _next(_task(_annotation("answer1")), rounds=1) is None


def test_both_bad_is_another_try_until_there_are_no_more() -> None:
    """The same version may try again, in the same round; the last try ends it."""
    task = _task(_annotation("both_bad"))
    assert _next(task, "rankloop-v1", rounds=1) == (1, 2)
    assert _next(task, "rankloop-v1", rounds=1, tries=1) is None
    place = next_place(task, LIVE, champion="rankloop-v1", rounds=1, tries=2)
    assert place
    last = {**made_task(task, LIVE, place), "id": 6, "annotations": [_annotation("both_bad")]}
    assert _next(last, "rankloop-v1", rounds=1, tries=2) is None
    assert _next(last, "rankloop-v2", rounds=2, tries=2) == (2, 1)


def test_one_who_found_an_answer_good_is_enough() -> None:
    """Of two annotators, one judged: the prompt has its judgement."""
    assert _next(_task(_annotation("both_bad"), _annotation("answer2")), "rankloop-v1") is None


@pytest.mark.parametrize(
    "task",
    [
        _task(),
        _task(_annotation("answer1", skipped=True)),
        _task(_annotation("answer1"), is_labeled=False),
        _task(_annotation("answer1"), data={"other": 1}),
        _task(_annotation("answer1"), data=None),
        {"id": 5, "data": {"prompt": "?"}, "annotations": "none"},
    ],
)
def test_what_nobody_judged_yet_is_due_for_nothing(task: dict[str, Any]) -> None:
    """No annotation, only skips, annotators still missing, or no prompt."""
    assert _next(task) is None


def test_the_new_task_keeps_every_key_and_knows_what_was_shown() -> None:
    """Data are the same, so the split is; the user's meta stays; the pairs of all tasks before are remembered."""
    task = _task(_annotation("answer1"), meta={"source": "forum"})
    place = next_place(task, LIVE, champion="rankloop-v2", rounds=3, tries=1)
    assert place
    made = made_task(task, LIVE, place)
    assert made["data"] == task["data"]
    assert split_of(made["data"]["prompt"]) == split_of("What  is tea?")
    assert (made["meta"]["source"], made["meta"]["round"], made["meta"]["try"]) == ("forum", 2, 1)
    assert place_in(made["meta"]) == place
    assert pairs_shown(made) == {pair_digest("rankloop-v1 two", "rankloop-v1  one")}
    third = {**made, "id": 6, "annotations": [_annotation("answer2", "rankloop-v2")], "is_labeled": True}
    place = next_place(third, LIVE, champion="rankloop-v3", rounds=3, tries=1)
    assert place
    assert place.round == 3
    assert len(pairs_shown(made_task(third, LIVE, place))) == 2


@pytest.mark.parametrize("meta", [None, [], {"round": 2, "try": 1}, {"rankloop": {"prompt": "a"}, "round": "2"}])
def test_anybodys_meta_is_no_place(meta: object) -> None:
    """A `round` that somebody else wrote into a task's meta means nothing here."""
    assert place_in(meta) is None
    assert pairs_shown({"meta": meta}) == frozenset()
