"""Whole exports: every annotation is counted once, whatever it contains."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_json import (
    LIVE,
    PAIRWISE,
    RANKER,
    annotation,
    convert,
    dropped,
    live,
    pair,
    plain,
    ranking,
    task,
    verdict,
)

from ml_backend.labels.annotations import Dropped
from ml_backend.labels.fields import LabelConfig
from ml_backend.labels.infer import infer_label_config
from ml_backend.labels.judgements import ConversionSummary, judgements_from_export
from training.data.files import read_preferences, write_preferences
from training.data.types import Verdict
from training.data.votes import aggregate
from training.errors import DataError


def test_every_fate_is_counted_apart() -> None:
    """Kept, tie, skipped, both bad, empty, unknown and superseded annotations add up."""
    skip = live("answer1", 3, was_cancelled=True, completed_by=7)
    people = [live("answer1", 1, completed_by=5), live("tie", 2, completed_by=6), skip]
    rest = [live("both_bad", 4, completed_by=8), annotation([], 5, completed_by=9), live("banana", 6, completed_by=10)]
    _, summary = convert(task(*people, *rest, live("answer2", 7, completed_by=5)))
    assert summary == ConversionSummary(
        7,
        2,
        1,
        1,
        0,
        {"both_bad": 1, "empty": 1, "superseded": 1, "unknown_verdict": 1},
        1,
        unknown_verdicts={"banana": 1},
    )


def test_the_newest_of_one_person_s_annotations_counts() -> None:
    """The newest is found by time, to the fraction of a second, in any order; other people's and tasks' stay."""
    early = live("answer1", 8, updated_at="2026-01-01T00:00:05Z")
    late = live("answer2", 2, updated_at="2026-01-01T00:00:05.25Z")
    for order in ([early, late], [late, early]):
        judgements, summary = convert(task(*order))
        assert [judgement.verdict for judgement in judgements] == [Verdict.ANSWER2]
        assert summary.dropped == {"superseded": 1}
    other_task = {**task(live("answer1")), "id": 10}
    assert convert(task(live("answer1")), other_task)[1].kept == 2
    assert (
        convert(task(live("answer1"), live("answer1", 2, completed_by=None), live("tie", completed_by=None)))[1].kept
        == 3
    )


def test_a_later_skip_withdraws_an_earlier_judgement() -> None:
    """The newest counts, even if it is a skip."""
    _, summary = convert(task(live("answer1", 1), live("answer1", 2, was_cancelled=True)))
    assert (summary.kept, summary.skipped, dict(summary.dropped)) == (0, 1, {"superseded": 1})


@pytest.mark.parametrize(
    ("completed_by", "name"),
    [
        (4, "4"),
        ({"id": 4, "email": "a@b.co"}, "4"),
        ({"email": "a@b.co"}, "a@b.co"),
        (None, "unknown"),
        ([], "unknown"),
    ],
)
def test_annotators_are_named_alike_in_exports_and_the_tasks_api(completed_by: object, name: str) -> None:
    """An export gives a number, the API an object; both name the same person."""
    assert convert(task(live("answer1", completed_by=completed_by)))[0][0].annotator == name


def test_malformed_pieces_are_unreadable_not_fatal() -> None:
    """A task, its list of annotations, an annotation, a result or a piece of the wrong type is counted once."""
    broken = [
        "task",
        {**task(), "annotations": "many"},
        task("annotation"),
        task(annotation("result")),
        task(annotation(["piece", verdict("answer1")], completed_by=5)),
    ]
    assert dropped(*broken) == {"unreadable": 5}
    assert dropped({"id": 1, "data": {"prompt": "How?"}}, {"id": 2, "data": {}, "annotations": None}) == {}


def test_half_characters_do_not_reach_the_files(tmp_path: Path) -> None:
    """A lone surrogate, which a browser can submit but no file can store, becomes U+FFFD."""
    made = annotation([*plain("\ud83d bad", "\ud83d\ude00 good"), verdict("answer2")])
    preferences = aggregate(convert(task(made))[0])
    write_preferences(tmp_path / "p.jsonl", preferences)
    assert read_preferences(tmp_path / "p.jsonl") == preferences
    assert (preferences[0].chosen, preferences[0].rejected) == ("\U0001f600 good", "\ufffd bad")


def test_an_export_without_its_config_is_read_by_its_results() -> None:
    """Pairwise, ranker and live results are distinguished; names are those of our own configs."""
    answers = {"answer1": "a", "answer2": "b"}
    for made, config in (
        (task(pair("left"), **answers), PAIRWISE),
        (task(ranking(["x"]), items=[{"id": "x"}]), RANKER),
        (task(live("answer1")), LIVE),
    ):
        found = infer_label_config([made])
        assert (found.kind, found.control) == (config.kind, config.control)
        assert [field.key for field in (*found.prompts, *found.answers)] == [
            field.key for field in (*config.prompts, *config.answers)
        ]
    assert infer_label_config([]) == LIVE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


NAMES = st.sampled_from(["answer1", "answer2", "verdict", "comparison", "rank", "x"]) | JSON


PIECES = st.fixed_dictionaries(
    {},
    optional={
        "from_name": NAMES,
        "id": st.sampled_from(["v1~a~00", "x"]) | JSON,
        "origin": JSON,
        "meta": st.fixed_dictionaries({}, optional={"version": JSON, "proposed": JSON}) | JSON,
        "value": st.fixed_dictionaries(
            {},
            optional={
                "text": st.lists(st.text(max_size=3) | JSON, max_size=2) | JSON,
                "choices": st.lists(st.sampled_from(list(Verdict)).map(str) | JSON, max_size=2) | JSON,
                "selected": st.sampled_from(["left", "right"]) | JSON,
                "ranker": st.fixed_dictionaries({"rank": st.lists(st.sampled_from("abc") | JSON, max_size=3)}) | JSON,
            },
        )
        | JSON,
    },
)


RESULTS = st.lists(PIECES | JSON, max_size=4) | JSON


ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(1, 5) | JSON,
        "result": RESULTS,
        "was_cancelled": st.booleans() | JSON,
        "completed_by": st.integers(1, 2) | st.fixed_dictionaries({"id": st.integers(1, 2) | JSON}) | JSON,
        "updated_at": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01", "0001-01-01T00:00:00+14:00"]) | JSON,
        "parent_prediction": st.integers(1, 3) | JSON,
        "prediction": st.fixed_dictionaries({}, optional={"result": RESULTS, "model_version": JSON}) | JSON,
    },
)


SOUND = st.sampled_from([live("answer1"), live("tie", 2, completed_by=5), pair("left", 3), ranking(["a", "b"])])


DATA = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=3) | JSON,
        "answer1": st.text(max_size=3) | JSON,
        "answer2": st.text(max_size=3) | JSON,
        "items": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from("abc") | JSON, "body": JSON}) | JSON, max_size=3
        ),
    },
)


TASKS = st.fixed_dictionaries(
    {"data": DATA | JSON},
    optional={
        "id": st.integers(1, 2) | JSON,
        "annotations": st.lists(ANNOTATIONS | SOUND | JSON, max_size=4) | JSON,
        "predictions": st.lists(st.fixed_dictionaries({}, optional={"id": JSON, "result": RESULTS}) | JSON, max_size=2)
        | JSON,
    },
)


@given(st.lists(TASKS | JSON, max_size=4), st.sampled_from([LIVE, PAIRWISE, RANKER]))
def test_any_export_is_converted_and_every_annotation_counted(tasks: list[object], config: LabelConfig) -> None:
    """Whatever the JSON contains, nothing is raised, the counts add up, and all reasons are known."""
    judgements, summary = judgements_from_export(tasks, config, 1)
    assert summary.annotations == summary.kept + summary.skipped + sum(summary.dropped.values())
    assert set(summary.dropped) <= set(Dropped)
    assert len({j.annotation_id for j in judgements}) <= summary.kept <= len(judgements)
    assert summary.preferences == len(aggregate(judgements)) <= len(judgements)
    with suppress(DataError):
        infer_label_config(tasks)
