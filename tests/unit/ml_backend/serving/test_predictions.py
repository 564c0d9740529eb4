"""Predictions for tasks of each kind, in time or later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry

from ml_backend.errors import LabelConfigError, RegistryError
from ml_backend.labels.config import parse_label_config
from ml_backend.serving.predictions import AnswerPairModel, predictions_of, seed_key
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.version import AnswerPair
from training.errors import DataError

LIVE = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="First" alias="answer1"/><Choice value="Second" alias="answer2"/>
</Choices></View>"""
PAIRWISE = """<View><Text name="prompt" value="$prompt"/><Text name="answer1" value="$answer1"/>
<Text name="answer2" value="$answer2"/><Pairwise name="comparison" toName="answer1,answer2"/></View>"""
RANKER = """<View><Text name="prompt" value="$prompt"/><List name="answers" value="$items"/>
<Ranker name="rank" toName="answers"/></View>"""

Predict = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def predict(proposer: Proposer, jobs: FakeJobs) -> Predict:
    """Answers tasks of a project with this labeling configuration, with the shared proposer."""

    def predict(config: str | None, tasks: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
        chosen = {"proposer": proposer, "deadline_s": 30.0, "project_id": None, **options}
        model = AnswerPairModel(chosen["proposer"], jobs.propose, deadline_s=chosen["deadline_s"])
        return model.predict(tasks, config, chosen["project_id"])

    return predict


def _task(number: int, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": data, "project": 7}


def _promoted(proposer: Proposer, registry: FakeRegistry, name: str) -> None:
    registry.promote(name)
    assert proposer.wait_until_loaded(30)
    while proposer.version != name:
        with proposer._changed:
            proposer._changed.wait(0.1)


def test_live_tasks_get_both_answers(predict: Predict) -> None:
    """The two cards are filled by their tags' names, with the version in the prediction."""
    first, second = predict(LIVE, [_task(1, prompt="What is tea?"), _task(2, prompt="What is rain?")])
    for prediction in (first, second):
        assert prediction["model_version"] == "rankloop-v1"
        assert prediction["score"] == 0.5
        assert [region["from_name"] for region in prediction["result"]] == ["one", "two"]
        assert all(region["to_name"] == "question" and region["type"] == "textarea" for region in prediction["result"])
        assert all(region["value"]["text"][0] for region in prediction["result"])
    assert first["result"] != second["result"]


def test_the_same_task_gets_the_same_answers(predict: Predict) -> None:
    """A repeated request for a task, even among others, gets the same pair."""
    alone = predict(LIVE, [_task(5, prompt="What is tea?")])[0]
    among = predict(LIVE, [_task(4, prompt="What is rain?"), _task(5, prompt="What is tea?")])[1]
    assert alone == among


@pytest.mark.parametrize("data", [{}, {"prompt": None}, {"prompt": "   "}, {"other": "x"}])
def test_a_task_without_a_prompt_is_answered_with_nothing(
    predict: Predict, jobs: FakeJobs, data: dict[str, Any]
) -> None:
    """It gets an empty result from the current version, so that it isn't requested again; the others get answers."""
    predictions = predict(LIVE, [_task(1, prompt="What is tea?"), _task(2, **data), {"id": 3}])
    assert len(predictions[0]["result"]) == 2
    assert predictions[1:] == [{"result": [], "score": 0.0, "model_version": "rankloop-v1"}] * 2
    assert jobs.calls == []


def test_no_tasks_need_no_model(predict: Predict, settings: Any, registry: FakeRegistry) -> None:
    """An empty request is answered before any version is loaded, even without a labeling configuration."""
    assert predict(None, [], proposer=Proposer(registry, settings)) == []  # type: ignore[arg-type]


def test_what_is_late_is_proposed_in_the_background(predict: Predict, jobs: FakeJobs, proposer: Proposer) -> None:
    """Past the deadline a task gets an empty result under a version that isn't ours, so that it is requested again."""
    assert proposer.wait_until_loaded(30)
    predictions = predict(LIVE, [_task(n, prompt="Tea?") for n in (1, 2)], deadline_s=0.0, project_id=7)
    assert predictions == [{"result": [], "score": 0.0, "model_version": "rankloop-v1-pending"}] * 2
    assert jobs.calls == [("propose", 7)]


def test_a_broken_queue_does_not_cost_the_answers(predict: Predict, jobs: FakeJobs, proposer: Proposer) -> None:
    """If background proposals can't be queued, the request is answered nevertheless."""
    assert proposer.wait_until_loaded(30)
    jobs.fault = RegistryError("away")
    assert predict(LIVE, [_task(1, prompt="Tea?")], deadline_s=0.0, project_id=7)[0]["result"] == []


def test_without_a_version_the_answer_is_empty_but_valid(
    predict: Predict, jobs: FakeJobs, settings: Any, registry: FakeRegistry
) -> None:
    """A version that can't be loaded leaves every task with an empty result, and a string for a version."""
    registry.broken = "MLflow is away"
    proposer = Proposer(registry, settings)  # type: ignore[arg-type]
    proposer.start()
    try:
        assert predict(LIVE, [_task(1, prompt="Tea?"), _task(2)], proposer=proposer) == [
            {"result": [], "score": 0.0, "model_version": "rankloop-loading-pending"},
            {"result": [], "score": 0.0, "model_version": "rankloop-loading"},
        ]
    finally:
        proposer.stop()
    assert jobs.calls == [("propose", 7)]


def test_a_pair_is_judged_by_the_reward_model(predict: Predict, proposer: Proposer, registry: FakeRegistry) -> None:
    """The preferred side is selected, and swapping the answers swaps the side but not the confidence."""
    _promoted(proposer, registry, "rankloop-v2")
    answers = ("Leaves in hot water.", "No idea at all, go away.")
    there, back = predict(
        PAIRWISE,
        [_task(1, prompt="Tea?", answer1=answers[0], answer2=answers[1]),
         _task(2, prompt="Tea?", answer1=answers[1], answer2=answers[0])]
    )  # fmt: skip
    sides = [prediction["result"][0]["value"]["selected"] for prediction in (there, back)]
    assert sorted(sides) == ["left", "right"]
    assert there["score"] == pytest.approx(back["score"], abs=1e-5)
    assert 0.5 < there["score"] <= 1.0
    assert there["result"][0]["to_name"] == "answer1"
    assert there["model_version"] == "rankloop-v2"


def test_equal_or_missing_answers_get_no_selection(
    predict: Predict, proposer: Proposer, registry: FakeRegistry
) -> None:
    """Two equal answers score 0.5; if an answer is missing, nothing is predicted."""
    _promoted(proposer, registry, "rankloop-v2")
    even, blank, whole = predict(
        PAIRWISE,
        [_task(1, prompt="Tea?", answer1="Same.", answer2="Same."),
         _task(2, prompt="Tea?", answer2="Leaves."),
         _task(3, prompt="Tea?", answer1="Leaves in water.", answer2="No.")]
    )  # fmt: skip
    assert even == {"result": [], "score": 0.5, "model_version": "rankloop-v2"}
    assert blank == {"result": [], "score": 0.0, "model_version": "rankloop-v2"}
    assert whole["result"]


def test_the_base_selects_nothing(predict: Predict) -> None:
    """Without a reward model no side is preferred, and none is selected."""
    prediction = predict(PAIRWISE, [_task(1, prompt="Tea?", answer1="Leaves.", answer2="No.")])[0]
    assert prediction == {"result": [], "score": 0.5, "model_version": "rankloop-v1"}


def test_a_ranker_is_ordered_by_the_reward_model(predict: Predict, proposer: Proposer, registry: FakeRegistry) -> None:
    """The ranking follows the scores, whatever the order of the items."""
    _promoted(proposer, registry, "rankloop-v3")
    items = [{"id": name, "title": "", "body": body} for name, body in
             [("a", "Leaves in hot water."), ("b", "No."), ("c", "Ask somebody else about it!")]]  # fmt: skip
    tasks = [_task(1, prompt="Tea?", items=items), _task(2, prompt="Tea?", items=items[::-1])]
    there, back = predict(RANKER, tasks)
    order = there["result"][0]["value"]["ranker"]["rank"]
    judged = proposer.asked(until=time.monotonic() + 30).log_odds([("Tea?", item["body"]) for item in items])
    scores = {item["id"]: score for item, score in zip(items, judged, strict=True)}
    assert order == sorted(scores, key=lambda name: -(scores[name] or 0.0))
    assert back["result"][0]["value"]["ranker"]["rank"] == order
    assert 0.5 <= there["score"] <= 1.0


def test_a_config_without_answers_is_refused(predict: Predict) -> None:
    """A labeling configuration that compares nothing is an error that says so."""
    with pytest.raises(LabelConfigError, match="no answers to compare"):
        predict('<View><Text name="t" value="$t"/></View>', [])


def test_tasks_need_a_config(predict: Predict) -> None:
    """Tasks without a labeling configuration are an error that says so."""
    with pytest.raises(DataError, match="label_config"):
        predict(None, [_task(1, prompt="Tea?")])


class Patchy:
    """Answers every second question."""

    name = "rankloop-v9"
    judges = True

    def propose(self, questions: Sequence[tuple[str, str]]) -> list[AnswerPair | None]:
        """The prompt itself, and its echo."""
        pairs = [AnswerPair(prompt, f"{prompt} {prompt}", self.name) for _, prompt in questions]
        return [pair if number % 2 == 0 else None for number, pair in enumerate(pairs)]

    def log_odds(self, answers: Sequence[tuple[str, str]]) -> list[float | None]:
        """Longer is better; the third answer has no score."""
        return [None if number == 2 else float(len(answer)) for number, (_, answer) in enumerate(answers)]


def test_anything_that_answers_will_do() -> None:
    """What a version leaves out is None, and its answers are formatted, for a queue and a version in memory alike."""
    live = predictions_of([_task(n, prompt=f"Tea {n}?") for n in (1, 2, 3)], parse_label_config(LIVE), Patchy())
    assert [prediction is None for prediction in live] == [False, True, False]
    assert live[2] is not None
    assert [region["value"]["text"] for region in live[2]["result"]] == [["Tea 3?"], ["Tea 3? Tea 3?"]]
    pairs = [_task(n, prompt="Tea?", answer1="Leaves.", answer2="No.") for n in (1, 2)]
    first, second = predictions_of(pairs, parse_label_config(PAIRWISE), Patchy())
    assert first is not None
    assert first["result"][0]["value"]["selected"] == "left"
    assert first["score"] == pytest.approx(1 / (1 + math.exp(-4)))
    assert second is None


def test_a_task_is_known_by_its_id() -> None:
    """Tasks with an id are seeded by it, others by their prompt."""
    assert seed_key({"id": 3}, "Tea?") == "task 3"
    assert seed_key({}, "Tea?") == "prompt Tea?"


def test_a_flawed_pair_is_not_shown_and_a_cut_answer_is_marked() -> None:
    """Blank and equal answers get an empty result under the version's name; a cut answer's region says so."""

    class _Version:
        name, judges = "v1", False

        def propose(self, _questions: Sequence[Any]) -> list[AnswerPair]:
            return [
                AnswerPair("same", "same", "v1"),
                AnswerPair("", "text", "v1"),
                AnswerPair("whole.", "half of a", "v1", (False, True)),
            ]

    tasks = [_task(number, prompt="Tea?") for number in (1, 2, 3)]
    same, blank, cut = predictions_of(tasks, parse_label_config(LIVE), _Version())  # type: ignore[arg-type]
    assert same == blank == {"result": [], "score": 0.0, "model_version": "v1"}
    assert cut is not None
    assert [region["meta"].get("cut", False) for region in cut["result"]] == [False, True]
