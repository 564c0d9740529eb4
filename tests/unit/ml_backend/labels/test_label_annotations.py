"""Single annotations: the judgements in them, who wrote which answer, and why there may be none."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from label_json import (
    LIVE,
    PAIRWISE,
    PREDICTION,
    RANKER,
    Json,
    annotation,
    area,
    convert,
    dropped,
    live,
    pair,
    plain,
    ranking,
    task,
    verdict,
)

from ml_backend.labels.predictions import live_prediction, version_in_region_id
from training.data.types import Demonstration, JudgedAnswer, Judgement, Verdict
from training.data.votes import aggregate, demonstrations_from


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
            sides="shuffled",
        )
    ]
    assert asdict(summary) == {
        "annotations": 1,
        "kept": 1,
        "ties": 0,
        "skipped": 0,
        "edited": 0,
        "dropped": {},
        "preferences": 1,
        "rewrites": 0,
        "ground_truth": 0,
        "unknown_verdicts": {},
        "drafts": 0,
        "completions": 0,
    }


@pytest.mark.parametrize(
    "choices", [[], ["Answer 1"], ["answer1", "answer2"], [None], [["answer1"]], [1], ["ANSWER1 "]]
)
def test_an_unknown_verdict_is_never_read_as_an_answer(choices: list[object]) -> None:
    """Only a single choice known to the configuration is a verdict."""
    regions = PREDICTION["result"]
    assert dropped(task(annotation([*regions, verdict(*choices)]))) == {"unknown_verdict": 1}


def test_no_verdict_or_two_is_no_verdict() -> None:
    """Answers without a verdict, two verdicts, or a malformed verdict give no judgement."""
    regions = PREDICTION["result"]
    for pieces in ([], [verdict("answer1"), verdict("answer2")], [{**verdict("answer1"), "value": None}]):
        assert dropped(task(annotation([*regions, *pieces]))) == {"unknown_verdict": 1}


@pytest.mark.parametrize(
    ("areas", "reason"),
    [
        ([area("answer1", ["a"])], "missing_answer"),
        ([area("answer1", [" "]), area("answer2", ["b"])], "missing_answer"),
        ([area("answer1", ["a"]), area("answer2", None)], "missing_answer"),
        ([area("answer1", ["a"]), area("answer2", ["b", "c"])], "unreadable"),
        ([area("answer1", ["a"]), area("answer2", ["b"]), area("answer2", ["c"])], "unreadable"),
        ([area("answer1", ["a  b"]), area("answer2", [" a b\n"])], "identical_answers"),
    ],
)
def test_answers_that_cannot_be_compared_are_dropped(areas: list[Json], reason: str) -> None:
    """A missing answer, two texts in one card, and identical texts have reasons of their own."""
    assert dropped(task(annotation([*areas, verdict("answer1")]))) == {reason: 1}


def test_a_task_without_a_prompt_is_dropped() -> None:
    """An annotation whose prompt is missing, blank or no text is dropped."""
    for data in ({}, {"prompt": " "}, {"prompt": {}}, {"prompt": []}, None):
        assert dropped({"id": 1, "data": data, "annotations": [live("answer1")]}) == {"missing_prompt": 1}


def test_an_edited_answer_is_kept_as_edited() -> None:
    """The judged text counts, alongside the proposed one; it becomes a demonstration if it won."""
    first, second = PREDICTION["result"]
    rewritten = {**first, "value": {"text": ["first, but better"]}, "origin": "prediction-changed"}
    judgements, summary = convert(task(annotation([rewritten, second, verdict("answer1")])))
    assert judgements[0].answer1 == JudgedAnswer("first, but better", "rankloop-v7", proposed="first")
    assert judgements[0].answer2 == JudgedAnswer("second", "rankloop-v7")
    assert (summary.kept, summary.edited, summary.rewrites) == (1, 1, 1)
    assert demonstrations_from(judgements) == [Demonstration("How?", "first, but better")]
    assert aggregate(judgements)[0].source.chosen_version is None


def test_an_answer_typed_anew_is_compared_with_the_prediction() -> None:
    """A card that was cleared and filled by hand has no meta; what was shown is in the prediction."""
    result = [area("answer1", ["typed anew"], id="x1", origin="manual"), PREDICTION["result"][1], verdict("answer1")]
    judged = task(annotation(result, parent_prediction=50), predictions=(PREDICTION,))
    assert convert(judged)[0][0].answer1 == JudgedAnswer("typed anew", "rankloop-v7", proposed="first")
    alone = convert(task(annotation(result)))[0][0].answer1
    assert (alone.model_version, alone.edited) == (None, False)


def test_texts_that_a_script_posts_are_no_edits() -> None:
    """Label Studio records the task's prediction with any annotation; without a parent it proves nothing."""
    made = annotation([*plain("own", "words"), verdict("answer1")], prediction=PREDICTION, parent_prediction=None)
    assert convert(task(made))[0][0].answer1 == JudgedAnswer("own")


@pytest.mark.parametrize("where", ["prediction", "predictions", "parent"])
def test_versions_are_found_through_predictions(where: str) -> None:
    """Without meta and ids, the prediction with exactly the same text says which version wrote it."""
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
    """A hand-written answer without a known proposal belongs to no version, whatever the task's prediction."""
    shown = {"id": 50, "model_version": "rankloop-v7"}
    made = annotation([*plain("a", "b", origin="manual"), verdict("answer1")], parent_prediction=50)
    assert convert(task(made, predictions=(shown,)))[0][0].answer1 == JudgedAnswer("a")


def test_region_ids_name_their_version() -> None:
    """This holds even for a name with a tilde; any other id names none."""
    for version in ("rankloop-v7", "my~model-v12"):
        region = live_prediction(LIVE, "a", "b", version)["result"][1]
        assert version_in_region_id(region["id"]) == version
    for other in ("v7_a_c1", "~a~12", "x~c~12", "x~a~", None, 7):
        assert version_in_region_id(other) is None
    bare = [{**region, "meta": {}} for region in PREDICTION["result"]]
    assert convert(task(annotation([*bare, verdict("tie")])))[0][0].answer1.model_version == "rankloop-v7"


def test_pairwise_sides_are_the_task_s_answers() -> None:
    """Left is the first answer that the config names, right the second, even in an accepted prediction."""
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
    """Missing and identical answers are distinguished from a skip and an empty submission."""
    assert dropped(task(pair("left"), answer1="a"), config=PAIRWISE) == {"missing_answer": 1}
    assert dropped(task(pair("left"), answer1="a", answer2="a"), config=PAIRWISE) == {"identical_answers": 1}
    assert dropped(task(annotation([]), answer1="a", answer2="b"), config=PAIRWISE) == {"empty": 1}
    assert dropped(task(pair("left", was_cancelled=True), answer1="a", answer2="b"), config=PAIRWISE) == {}


ITEMS = [{"id": "x", "body": "bad"}, {"id": "y", "body": "good", "model_version": "v2"}, {"id": "z", "body": "fair"}]


def test_a_ranking_gives_one_judgement_per_two_answers() -> None:
    """Three ranked answers in one annotation make three judgements; each answer beats those after it."""
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
    """No order, too few answers, a duplicate and one that the task lacks have reasons of their own."""
    assert dropped(task(ranking(order), items=ITEMS), config=RANKER) == {reason: 1}


@pytest.mark.parametrize(
    ("told", "seconds"), [(12.5, 12.5), (3, 3.0), (None, None), (True, None), (-1, None), ("4", None), (1e400, None)]
)
def test_seconds_are_those_that_the_page_measured(told: object, seconds: float | None) -> None:
    """Whatever isn't a time is no time."""
    judgements, _ = convert(task(live("answer1", lead_time=told)))
    assert judgements[0].lead_time == seconds


_PRESET = {"id": 60, "result": pair("left")["result"], "model_version": "rankloop-v7"}


@pytest.mark.parametrize(
    ("selected", "parent", "untouched"),
    [("left", 60, True), ("right", 60, False), ("left", None, None), ("left", 61, None), ("answer1", 60, True)],
)
def test_untouched_is_what_was_preselected(selected: str, parent: int | None, untouched: bool | None) -> None:
    """The value decides, not the region's origin; without a parent prediction, nothing was preselected."""
    given = pair(selected, parent_prediction=parent)
    given["result"][0]["origin"] = "prediction"
    judgements, _ = convert(task(given, predictions=(_PRESET,), answer1="a", answer2="b"), config=PAIRWISE)
    assert [(one.untouched, one.sides) for one in judgements] == [(untouched, "given")]


@pytest.mark.parametrize(("order", "untouched"), [(["x", "y", "z"], True), (["x", "z", "y"], False)])
def test_a_ranking_may_be_left_as_it_was_shown(order: list[str], untouched: bool) -> None:
    """Each of its pairs says so; there are no sides."""
    preset = {"id": 60, "result": ranking(["x", "y", "z"])["result"]}
    items = [{"id": name, "body": f"text {name}"} for name in "xyz"]
    given = {**ranking(order), "parent_prediction": 60}
    judgements, _ = convert(task(given, predictions=(preset,), answers=items, items=items), config=RANKER)
    assert [(one.untouched, one.sides) for one in judgements] == [(untouched, None)] * 3


def test_nothing_is_preselected_on_live_pairs() -> None:
    """The answers come from a prediction, the verdict from the person alone."""
    judgements, _ = convert(task(live("answer1", parent_prediction=50), predictions=(PREDICTION,)))
    assert judgements[0].untouched is None
