"""What is answered for tasks of each kind, and what is passed on of what happens in a project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry

from ml_backend.errors import LabelConfigError, RegistryError
from ml_backend.serving.predictions import AnswerPairModel, seed_key
from ml_backend.serving.proposer import Proposer
from training.errors import DataError

LIVE = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="First" alias="answer1"/><Choice value="Second" alias="answer2"/>
</Choices></View>"""
PAIRWISE = """<View><Text name="prompt" value="$prompt"/><Text name="answer1" value="$answer1"/>
<Text name="answer2" value="$answer2"/><Pairwise name="comparison" toName="answer1,answer2"/></View>"""
RANKER = """<View><Text name="prompt" value="$prompt"/><List name="answers" value="$items"/>
<Ranker name="rank" toName="answers"/></View>"""

MakeModel = Callable[..., AnswerPairModel]


@pytest.fixture
def make(proposer: Proposer, jobs: FakeJobs) -> MakeModel:
    """Makes a model for a labeling configuration, over the shared proposer."""

    def make(config: str | None, **options: Any) -> AnswerPairModel:
        return AnswerPairModel(
            config, options.pop("proposer", proposer), jobs, **{"model_name": "rankloop", "deadline_s": 30.0, **options}
        )

    return make


def _task(number: int, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": data, "project": 7}


def _promoted(proposer: Proposer, registry: FakeRegistry, name: str) -> None:
    registry.promote(name)
    assert proposer.wait_until_loaded(30)
    while proposer.version != name:
        with proposer._changed:
            proposer._changed.wait(0.1)


def test_live_tasks_get_both_answers(make: MakeModel) -> None:
    """The two cards are filled by the tags' own names, with the version in the prediction."""
    first, second = make(LIVE).predict([_task(1, prompt="What is tea?"), _task(2, prompt="What is rain?")])
    for prediction in (first, second):
        assert prediction["model_version"] == "rankloop-v1"
        assert prediction["score"] == 0.5
        assert [region["from_name"] for region in prediction["result"]] == ["one", "two"]
        assert all(region["to_name"] == "question" and region["type"] == "textarea" for region in prediction["result"])
        assert all(region["value"]["text"][0] for region in prediction["result"])
    assert first["result"] != second["result"]


def test_the_same_task_gets_the_same_answers(make: MakeModel) -> None:
    """Asked again, also among others, a task is answered with the pair it was answered with."""
    alone = make(LIVE).predict([_task(5, prompt="What is tea?")])[0]
    among = make(LIVE).predict([_task(4, prompt="What is rain?"), _task(5, prompt="What is tea?")])[1]
    assert alone == among


@pytest.mark.parametrize("data", [{}, {"prompt": None}, {"prompt": "   "}, {"prompt": 5}, {"other": "x"}])
def test_a_task_without_a_prompt_is_answered_with_nothing(
    make: MakeModel, jobs: FakeJobs, data: dict[str, Any]
) -> None:
    """An empty result of the version that answers, so that it isn't asked again; its neighbours are answered."""
    predictions = make(LIVE).predict([_task(1, prompt="What is tea?"), _task(2, **data), {"id": 3}])
    assert len(predictions[0]["result"]) == 2
    assert predictions[1:] == [{"result": [], "score": 0.0, "model_version": "rankloop-v1"}] * 2
    assert jobs.calls == []


def test_no_tasks_need_no_model(make: MakeModel, settings: Any, registry: FakeRegistry) -> None:
    """An empty request is answered before any version is loaded, even without a labeling configuration."""
    assert make(None, proposer=Proposer(registry, settings)).predict([]) == []  # type: ignore[arg-type]


def test_what_is_late_is_proposed_in_the_background(make: MakeModel, jobs: FakeJobs, proposer: Proposer) -> None:
    """Past the deadline a task gets an empty result under a version that isn't ours, so that it is asked for again."""
    assert proposer.wait_until_loaded(30)
    predictions = make(LIVE, deadline_s=0.0, project_id=7).predict([_task(n, prompt="Tea?") for n in (1, 2)])
    assert predictions == [{"result": [], "score": 0.0, "model_version": "rankloop-v1-pending"}] * 2
    assert jobs.calls == [("propose", 7)]


def test_a_broken_queue_does_not_cost_the_answers(make: MakeModel, jobs: FakeJobs, proposer: Proposer) -> None:
    """Where background proposals can't be queued the request is answered all the same."""
    assert proposer.wait_until_loaded(30)
    jobs.fault = RegistryError("away")
    assert make(LIVE, deadline_s=0.0, project_id=7).predict([_task(1, prompt="Tea?")])[0]["result"] == []


def test_without_a_version_the_answer_is_empty_but_valid(
    make: MakeModel, jobs: FakeJobs, settings: Any, registry: FakeRegistry
) -> None:
    """A version that can't be loaded leaves every task with an empty result, and a string for a version."""
    registry.broken = "MLflow is away"
    proposer = Proposer(registry, settings)  # type: ignore[arg-type]
    proposer.start()
    try:
        model = make(LIVE, proposer=proposer)
        assert model.predict([_task(1, prompt="Tea?"), _task(2)]) == [
            {"result": [], "score": 0.0, "model_version": "rankloop-loading-pending"},
            {"result": [], "score": 0.0, "model_version": "rankloop-loading"},
        ]
    finally:
        proposer.stop()
    assert jobs.calls == [("propose", 7)]


def test_a_pair_is_judged_by_the_reward_model(make: MakeModel, proposer: Proposer, registry: FakeRegistry) -> None:
    """The preferred side is selected, and swapping the answers swaps the side but not how sure it is."""
    _promoted(proposer, registry, "rankloop-v2")
    answers = ("Leaves in hot water.", "No idea at all, go away.")
    there, back = make(PAIRWISE).predict(
        [_task(1, prompt="Tea?", answer1=answers[0], answer2=answers[1]),
         _task(2, prompt="Tea?", answer1=answers[1], answer2=answers[0])]
    )  # fmt: skip
    sides = [prediction["result"][0]["value"]["selected"] for prediction in (there, back)]
    assert sorted(sides) == ["left", "right"]
    assert there["score"] == pytest.approx(back["score"], abs=1e-5)
    assert 0.5 < there["score"] <= 1.0
    assert there["result"][0]["to_name"] == "answer1"
    assert there["model_version"] == "rankloop-v2"


def test_equal_or_missing_answers_get_no_selection(make: MakeModel, proposer: Proposer, registry: FakeRegistry) -> None:
    """Two equal answers are even (0.5); where an answer is missing nothing is said."""
    _promoted(proposer, registry, "rankloop-v2")
    even, blank, whole = make(PAIRWISE).predict(
        [_task(1, prompt="Tea?", answer1="Same.", answer2="Same."),
         _task(2, prompt="Tea?", answer1="", answer2="Leaves."),
         _task(3, prompt="Tea?", answer1="Leaves in water.", answer2="No.")]
    )  # fmt: skip
    assert even == {"result": [], "score": 0.5, "model_version": "rankloop-v2"}
    assert blank == {"result": [], "score": 0.0, "model_version": "rankloop-v2"}
    assert whole["result"]


def test_the_base_selects_nothing(make: MakeModel) -> None:
    """Without a reward model no side is preferred, and none is selected."""
    prediction = make(PAIRWISE).predict([_task(1, prompt="Tea?", answer1="Leaves.", answer2="No.")])[0]
    assert prediction == {"result": [], "score": 0.5, "model_version": "rankloop-v1"}


def test_a_ranker_is_ordered_by_the_reward_model(make: MakeModel, proposer: Proposer, registry: FakeRegistry) -> None:
    """The order is that of the scores, and doesn't depend on how the items were listed."""
    _promoted(proposer, registry, "rankloop-v3")
    items = [{"id": name, "title": "", "body": body} for name, body in
             [("a", "Leaves in hot water."), ("b", "No."), ("c", "Ask somebody else about it!")]]  # fmt: skip
    tasks = [_task(1, prompt="Tea?", items=items), _task(2, prompt="Tea?", items=items[::-1])]
    there, back = make(RANKER).predict(tasks)
    order = there["result"][0]["value"]["ranker"]["rank"]
    judged = proposer.log_odds([("Tea?", item["body"]) for item in items], deadline_s=30)
    assert judged is not None
    scores = {item["id"]: score for item, score in zip(items, judged[1], strict=True)}
    assert order == sorted(scores, key=lambda name: -(scores[name] or 0.0))
    assert back["result"][0]["value"]["ranker"]["rank"] == order
    assert 0.5 <= there["score"] <= 1.0


def test_a_config_without_answers_is_refused(make: MakeModel) -> None:
    """A labeling configuration that compares nothing is named as what is wrong."""
    with pytest.raises(LabelConfigError, match="no answers to compare"):
        make('<View><Text name="t" value="$t"/></View>')


def test_tasks_need_a_config(make: MakeModel) -> None:
    """Tasks that come without a labeling configuration can't be answered, and that is said."""
    with pytest.raises(DataError, match="label_config"):
        make(None).predict([_task(1, prompt="Tea?")])


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        ("ANNOTATION_CREATED", [("judgement", 7)]),
        ("ANNOTATION_UPDATED", [("judgement", 7)]),
        ("ANNOTATIONS_CREATED", [("judgement", 7)]),
        ("ANNOTATIONS_DELETED", [("judgement", 7)]),
        ("TASKS_CREATED", [("propose", 7), ("judgement", 7)]),
        ("START_TRAINING", [("train", 7)]),
        ("PROJECT_UPDATED", []),
        ("TASKS_DELETED", []),
        ("SOMETHING_NEW", []),
    ],
)
def test_events_are_passed_on(make: MakeModel, jobs: FakeJobs, event: str, asked: list[tuple[str, int]]) -> None:
    """Each event leads to the job it calls for; the rest is ignored (PROJECT_UPDATED would loop)."""
    answer = make(None).fit(event, {"project": {"id": 7}})
    assert jobs.calls == asked
    assert (answer["status"] == "ignored") == (not asked)


def test_start_training_answers_with_the_job(make: MakeModel) -> None:
    """Label Studio reads `job`; people read the rest."""
    answer = make(None, project_id=7).fit("START_TRAINING", {})
    assert answer == {"job": "cycle-1", "status": "queued", "message": "a training cycle was queued"}


def test_start_training_before_every_save_counts_as_a_judgement(make: MakeModel, jobs: FakeJobs) -> None:
    """With Label Studio's switch on, a cycle per judgement would train on nothing new; a person is told what to do."""
    answer = make(None).fit("START_TRAINING", {"project": {"id": 7, "min_annotations_to_start_training": 1}})
    assert jobs.calls == [("judgement", 7)]
    assert (answer["job"], answer["status"]) == (None, "queued")
    assert "rankloop train --project 7" in answer["message"]
    make(None).fit("START_TRAINING", {"project": {"id": 7, "min_annotations_to_start_training": 0}})
    assert jobs.calls[1:] == [("train", 7)]


def test_an_event_without_a_payload_is_left_to_reconciliation(make: MakeModel, jobs: FakeJobs) -> None:
    """With "send payload" off only the action comes: nothing to do, and nothing fails. Training can't be guessed."""
    assert make(None).fit("ANNOTATION_CREATED", {"action": "ANNOTATION_CREATED"})["status"] == "ignored"
    with pytest.raises(DataError, match="without a project"):
        make(None).fit("START_TRAINING", {})
    assert jobs.calls == []


def test_a_task_is_known_by_its_id() -> None:
    """Tasks with an id are seeded by it, others by their prompt."""
    assert seed_key({"id": 3}, "Tea?") == "task 3"
    assert seed_key({}, "Tea?") == "prompt Tea?"
