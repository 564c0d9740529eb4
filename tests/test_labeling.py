"""Annotations become judgements: every one counted, none read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.label_annotations import Dropped
from ml_backend.label_predictions import version_in_region_id
from ml_backend.labeling import (
    ConversionSummary,
    LabelConfig,
    config_for_export,
    judgements_from_export,
    live_prediction,
    parse_label_config,
)
from training.errors import DataError
from training.preferences import aggregate, demonstrations_from, read_preferences, write_preferences
from training.types import Demonstration, JudgedAnswer, Judgement, Verdict

ROOT = Path(__file__).parent.parent
Json = dict[str, Any]


def config_in(name: str) -> LabelConfig:
    """One of the project's own labeling configurations."""
    return parse_label_config((ROOT / name).read_text(encoding="utf-8"))


LIVE = config_in("label_config.xml")
PAIRWISE = config_in("label_configs/pairwise.xml")
RANKER = config_in("label_configs/ranker.xml")
PREDICTION = {"id": 50, **live_prediction(LIVE, "first", "second", "rankloop-v7")}


def area(name: str, text: object, **more: object) -> Json:
    """What a TextArea stores."""
    return {"type": "textarea", "from_name": name, "to_name": "prompt", "value": {"text": text}, **more}


def verdict(*choices: object) -> Json:
    """What the verdict stores."""
    return {"type": "choices", "from_name": "verdict", "to_name": "prompt", "value": {"choices": list(choices)}}


def annotation(result: object, number: int = 1, **more: object) -> Json:
    """An annotation as a JSON export gives it."""
    when = f"2026-01-01T00:00:{number:02}.5Z"
    return {"id": number, "completed_by": 4, "result": result, "was_cancelled": False, "updated_at": when, **more}


def live(choice: str, number: int = 1, **more: object) -> Json:
    """A person's verdict on PREDICTION, submitted as Label Studio's page does it."""
    regions = [{**region, "origin": "prediction"} for region in PREDICTION["result"]]
    return annotation([*regions, verdict(choice)], number, **more)


def task(*annotations: object, predictions: object = (), **data: object) -> Json:
    """A task of an export."""
    return {
        "id": 9,
        "data": {"prompt": "How?", **data},
        "annotations": list(annotations),
        "predictions": list(predictions) if isinstance(predictions, tuple) else predictions,
    }


def convert(*tasks: object, config: LabelConfig = LIVE) -> tuple[list[Judgement], ConversionSummary]:
    """The conversion, for project 3."""
    return judgements_from_export(tasks, config, 3)


def dropped(*tasks: object, config: LabelConfig = LIVE) -> dict[str, int]:
    """What was dropped and why, having made sure that the counts add up."""
    judgements, summary = convert(*tasks, config=config)
    assert judgements == []
    assert summary.annotations == summary.skipped + sum(summary.dropped.values())
    return dict(summary.dropped)


def test_a_live_judgement_keeps_texts_verdict_version_and_source() -> None:
    """What the labeling page stores becomes one judgement, each answer with the version that wrote it."""
    judgements, summary = convert(task(live("answer2")))
    assert judgements == [
        Judgement(
            prompt="How?",
            answer1=JudgedAnswer("first", "rankloop-v7"),
            answer2=JudgedAnswer("second", "rankloop-v7"),
            verdict=Verdict.ANSWER2,
            annotator="4",
            project_id=3,
            task_id=9,
            annotation_id=1,
            updated_at="2026-01-01T00:00:01.5Z",
        )
    ]
    assert summary.as_json() == {
        "annotations": 1,
        "kept": 1,
        "ties": 0,
        "skipped": 0,
        "edited": 0,
        "dropped": {},
        "preferences": 1,
    }


def test_every_fate_is_counted_apart() -> None:
    """Kept, tie, skipped, both bad, empty, unknown and superseded stand side by side and add up."""
    skip = live("answer1", 3, was_cancelled=True, completed_by=7)
    people = [live("answer1", 1, completed_by=5), live("tie", 2, completed_by=6), skip]
    rest = [live("both_bad", 4, completed_by=8), annotation([], 5, completed_by=9), live("banana", 6, completed_by=10)]
    _, summary = convert(task(*people, *rest, live("answer2", 7, completed_by=5)))
    assert summary == ConversionSummary(
        7, 2, 1, 1, 0, {"both_bad": 1, "empty": 1, "superseded": 1, "unknown_verdict": 1}, 1
    )


@pytest.mark.parametrize(
    "choices", [[], ["Answer 1"], ["answer1", "answer2"], [None], [["answer1"]], [1], ["ANSWER1 "]]
)
def test_an_unknown_verdict_is_never_read_as_an_answer(choices: list[object]) -> None:
    """Only exactly one choice that the configuration knows is a verdict."""
    regions = PREDICTION["result"]
    assert dropped(task(annotation([*regions, verdict(*choices)]))) == {"unknown_verdict": 1}


def test_no_verdict_or_two_is_no_verdict() -> None:
    """Answers alone say nothing; nor do two verdicts, or one whose value is broken."""
    regions = PREDICTION["result"]
    for pieces in ([], [verdict("answer1"), verdict("answer2")], [{**verdict("answer1"), "value": None}]):
        assert dropped(task(annotation([*regions, *pieces]))) == {"unknown_verdict": 1}


@pytest.mark.parametrize(
    ("areas", "reason"),
    [
        ([area("answer1", ["a"])], "missing_answer"),
        ([area("answer1", ["a"]), area("answer2", [" "])], "missing_answer"),
        ([area("answer1", ["a"]), area("answer2", None)], "missing_answer"),
        ([area("answer1", ["a"]), area("answer2", ["b", "c"])], "unreadable"),
        ([area("answer1", ["a"]), area("answer2", ["b"]), area("answer2", ["c"])], "unreadable"),
        ([area("answer1", ["a  b"]), area("answer2", [" a b\n"])], "identical_answers"),
    ],
)
def test_answers_that_cannot_be_compared_are_dropped(areas: list[Json], reason: str) -> None:
    """A missing answer, two texts in one card, and the same text twice are told apart."""
    assert dropped(task(annotation([*areas, verdict("answer1")]))) == {reason: 1}


def test_a_task_without_a_prompt_is_dropped() -> None:
    """A prompt that is missing, blank or no text leaves nothing to learn from."""
    for data in ({}, {"prompt": " "}, {"prompt": 5}, None):
        assert dropped({"id": 1, "data": data, "annotations": [live("answer1")]}) == {"missing_prompt": 1}


def test_an_edited_answer_is_kept_as_edited() -> None:
    """The text that was judged counts, with what was proposed beside it; it becomes a demonstration when it won."""
    first, second = PREDICTION["result"]
    rewritten = {**first, "value": {"text": ["first, but better"]}, "origin": "prediction-changed"}
    judgements, summary = convert(task(annotation([rewritten, second, verdict("answer1")])))
    assert judgements[0].answer1 == JudgedAnswer("first, but better", "rankloop-v7", proposed="first")
    assert judgements[0].answer2 == JudgedAnswer("second", "rankloop-v7")
    assert (summary.kept, summary.edited) == (1, 1)
    assert demonstrations_from(judgements) == [Demonstration("How?", "first, but better")]
    assert aggregate(judgements)[0].source.chosen_version is None


def test_an_answer_typed_anew_is_compared_with_the_prediction() -> None:
    """A card that was emptied and filled by hand has no meta; what was shown is in the prediction."""
    result = [area("answer1", ["typed anew"], id="x1", origin="manual"), PREDICTION["result"][1], verdict("answer1")]
    judged = task(annotation(result, parent_prediction=50), predictions=(PREDICTION,))
    assert convert(judged)[0][0].answer1 == JudgedAnswer("typed anew", "rankloop-v7", proposed="first")
    alone = convert(task(annotation(result)))[0][0].answer1
    assert (alone.model_version, alone.edited) == (None, False)


def test_texts_that_a_script_posts_are_no_edits() -> None:
    """Label Studio notes the task's prediction beside any annotation; without a parent it proves nothing."""
    made = annotation([*plain("own", "words"), verdict("answer1")], prediction=PREDICTION, parent_prediction=None)
    assert convert(task(made))[0][0].answer1 == JudgedAnswer("own")


def plain(*texts: str, origin: str | None = None) -> list[Json]:
    """Both answers without ids and meta, as a script may post them."""
    more = {} if origin is None else {"origin": origin}
    return [area(f"answer{n}", [text], **more) for n, text in enumerate(texts, start=1)]


@pytest.mark.parametrize("where", ["prediction", "predictions", "parent"])
def test_versions_are_found_through_predictions(where: str) -> None:
    """Without meta and ids, the prediction that holds the very text says which version wrote it."""
    made = annotation([*plain("first", "second"), verdict("answer1")], parent_prediction=50)
    stale = {"id": 49, "model_version": "rankloop-v6", "result": plain("old first", "old second")}
    judged = {
        "prediction": task({**made, "prediction": PREDICTION}),
        "predictions": task({**made, "parent_prediction": None}, predictions=(stale, PREDICTION)),
        "parent": task(made, predictions=(stale, {"id": 50, "model_version": "rankloop-v7"})),
    }[where]
    answers = convert(judged)[0][0]
    assert answers.answer1 == JudgedAnswer("first", "rankloop-v7")
    assert answers.answer2 == JudgedAnswer("second", "rankloop-v7")


def test_a_version_is_not_claimed_for_what_a_person_wrote() -> None:
    """A hand-written answer of which no proposal is known belongs to no version, whatever the task's prediction."""
    shown = {"id": 50, "model_version": "rankloop-v7"}
    made = annotation([*plain("a", "b", origin="manual"), verdict("answer1")], parent_prediction=50)
    assert convert(task(made, predictions=(shown,)))[0][0].answer1 == JudgedAnswer("a")


def test_region_ids_name_their_version() -> None:
    """Also a name with a tilde; any other id names none."""
    for version in ("rankloop-v7", "my~model-v12"):
        region = live_prediction(LIVE, "a", "b", version)["result"][1]
        assert version_in_region_id(region["id"]) == version
    for other in ("v7_a_c1", "~a~12", "x~c~12", "x~a~", None, 7):
        assert version_in_region_id(other) is None
    bare = [{**region, "meta": {}} for region in PREDICTION["result"]]
    assert convert(task(annotation([*bare, verdict("tie")])))[0][0].answer1.model_version == "rankloop-v7"


def pair(selected: object, number: int = 1, **more: object) -> Json:
    """What a Pairwise stores."""
    region = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison", "value": {"selected": selected}}
    return annotation([region], number, **more)


def test_pairwise_sides_are_the_task_s_answers() -> None:
    """Left is the first answer that the config names, right the second, also in a prediction that was accepted."""
    for selected, expected in (("left", Verdict.ANSWER1), ("right", Verdict.ANSWER2)):
        made = pair(selected, parent_prediction=5)
        made["result"][0]["origin"] = "prediction"
        judgement = convert(task(made, answer1="a", answer2=" b\n"), config=PAIRWISE)[0][0]
        assert (judgement.answer1.text, judgement.answer2.text, judgement.verdict) == ("a", "b", expected)


@pytest.mark.parametrize("selected", ["banana", "", None, "Left", ["left"], {}, True])
def test_whatever_is_not_left_is_not_right(selected: object) -> None:
    """An unknown side is dropped and counted."""
    assert dropped(task(pair(selected), answer1="a", answer2="b"), config=PAIRWISE) == {"unknown_verdict": 1}


def test_pairwise_tasks_need_both_answers() -> None:
    """A missing or equal answer is told apart from a skip and an empty submission."""
    assert dropped(task(pair("left"), answer1="a"), config=PAIRWISE) == {"missing_answer": 1}
    assert dropped(task(pair("left"), answer1="a", answer2="a"), config=PAIRWISE) == {"identical_answers": 1}
    assert dropped(task(annotation([]), answer1="a", answer2="b"), config=PAIRWISE) == {"empty": 1}
    assert dropped(task(pair("left", was_cancelled=True), answer1="a", answer2="b"), config=PAIRWISE) == {}


def ranking(order: object) -> Json:
    """What a Ranker stores."""
    region = {"type": "ranker", "from_name": "rank", "to_name": "answers", "value": {"ranker": {"rank": order}}}
    return annotation([region])


ITEMS = [{"id": "x", "body": "bad"}, {"id": "y", "body": "good", "model_version": "v2"}, {"id": "z", "body": "fair"}]


def test_a_ranking_gives_one_judgement_per_two_answers() -> None:
    """Three ranked answers make three judgements of one annotation; each is better than those after it."""
    judgements, summary = convert(task(ranking(["y", "z", "x"]), items=ITEMS), config=RANKER)
    pairs = [(j.answer1.text, j.answer2.text) for j in judgements]
    assert pairs == [("good", "fair"), ("good", "bad"), ("fair", "bad")]
    assert {j.verdict for j in judgements} == {Verdict.ANSWER1}
    assert judgements[0].answer1.model_version == "v2"
    assert (summary.annotations, summary.kept, summary.preferences) == (1, 1, 3)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("yzx", "unknown_verdict"),
        (None, "unknown_verdict"),
        (["y"], "missing_answer"),
        ([], "missing_answer"),
        (["y", "y"], "unreadable"),
        (["y", "nobody"], "unreadable"),
    ],
)
def test_rankings_that_cannot_be_read_are_dropped(order: object, reason: str) -> None:
    """No order, too few answers, one twice, and one that the task doesn't hold are told apart."""
    assert dropped(task(ranking(order), items=ITEMS), config=RANKER) == {reason: 1}


def test_the_newest_of_one_person_s_annotations_counts() -> None:
    """By time, whole seconds and fractions alike, whichever stands first; other people's and tasks' stay."""
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
    """The newest counts, also when it is a skip."""
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


def test_json_min_is_refused_with_the_right_format_named() -> None:
    """JSON_MIN leaves out skips and answers, so a dataset of it would be wrong without a word."""
    row = {"id": 1, "prompt": "How?", "verdict": "answer1", "annotator": 1, "annotation_id": 1, "lead_time": 1.0}
    with pytest.raises(DataError, match=r"JSON_MIN.*Export again from Label Studio as JSON"):
        convert(row)


def test_half_characters_do_not_reach_the_files(tmp_path: Path) -> None:
    """A lone surrogate, which a browser can submit and no file can hold, becomes U+FFFD."""
    made = annotation([*plain("\ud83d bad", "\ud83d\ude00 good"), verdict("answer2")])
    preferences = aggregate(convert(task(made))[0])
    write_preferences(tmp_path / "p.jsonl", preferences)
    assert read_preferences(tmp_path / "p.jsonl") == preferences
    assert (preferences[0].chosen, preferences[0].rejected) == ("\U0001f600 good", "\ufffd bad")


def test_an_export_without_its_config_is_read_by_its_results() -> None:
    """Pairwise, ranker and live results are told apart; names are those of our own configs."""
    assert config_for_export([task(pair("left"))]) == PAIRWISE
    assert config_for_export([task(ranking(["x"]))]) == RANKER
    assert config_for_export([task(live("answer1"))]) == LIVE
    assert config_for_export([]) == LIVE


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
    """Whatever the JSON holds, nothing is raised, the counts add up, and reasons are known ones."""
    judgements, summary = judgements_from_export(tasks, config, 1)
    assert summary.annotations == summary.kept + summary.skipped + sum(summary.dropped.values())
    assert set(summary.dropped) <= set(Dropped)
    assert len({j.annotation_id for j in judgements}) <= summary.kept <= len(judgements)
    assert summary.preferences == len(aggregate(judgements)) <= len(judgements)
    config_for_export(tasks)
