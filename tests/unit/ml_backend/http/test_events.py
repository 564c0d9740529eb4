"""Label Studio's events and the jobs they queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from edge_fakes import FakeJobs

from ml_backend.http.events import pass_on
from ml_backend.http.messages import WebhookRequest, parse_request
from training.errors import DataError

Tell = Callable[..., dict[str, Any]]


@pytest.fixture
def tell(jobs: FakeJobs) -> Tell:
    """Pass on an event as received."""

    def tell(action: str, **payload: Any) -> dict[str, Any]:
        return pass_on(parse_request(WebhookRequest, {"action": action, **payload}), jobs)  # type: ignore[arg-type]

    return tell


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        ("ANNOTATION_CREATED", [("judgement", 7)]),
        ("ANNOTATION_UPDATED", [("judgement", 7)]),
        ("ANNOTATIONS_CREATED", [("judgement", 7)]),
        ("ANNOTATIONS_DELETED", [("judgement", 7)]),
        ("TASKS_CREATED", [("propose", 7), ("judgement", 7)]),
        ("START_TRAINING", [("train", 7)]),
        ("PROJECT_UPDATED", [("propose", 7)]),
        ("TASKS_DELETED", []),
        ("SOMETHING_NEW", []),
    ],
)
def test_events_are_passed_on(tell: Tell, jobs: FakeJobs, event: str, asked: list[tuple[str, int]]) -> None:
    """Each event queues its job; others are ignored. A changed project may need other proposals."""
    answer = tell(event, project={"id": 7})
    assert jobs.calls == asked
    assert (answer["status"] == "ignored") == (not asked)


def test_start_training_answers_with_the_job(tell: Tell) -> None:
    """The answer has `job` for Label Studio, and a message for people."""
    answer = tell("START_TRAINING", project={"id": 7})
    assert answer == {"job": "cycle-1", "status": "queued", "message": "a training cycle was queued"}


def test_start_training_before_every_save_counts_as_a_judgement(tell: Tell, jobs: FakeJobs) -> None:
    """With training on every submission, no cycle starts per judgement, and the message says what to do."""
    answer = tell("START_TRAINING", project={"id": 7, "min_annotations_to_start_training": 1})
    assert jobs.calls == [("judgement", 7)]
    assert (answer["job"], answer["status"]) == (None, "queued")
    assert "rankloop train --project 7" in answer["message"]
    tell("START_TRAINING", project={"id": 7, "min_annotations_to_start_training": 0})
    assert jobs.calls[1:] == [("train", 7)]


def test_an_event_without_a_payload_is_left_to_reconciliation(tell: Tell, jobs: FakeJobs) -> None:
    """With "send payload" off, an event without a project is ignored, except that training is an error."""
    assert tell("ANNOTATION_CREATED")["status"] == "ignored"
    with pytest.raises(DataError, match="without a project"):
        tell("START_TRAINING")
    assert jobs.calls == []


@pytest.mark.parametrize(
    "payload",
    [
        {"project": 7},
        {"project": "7.1795380917"},
        {"project": {"id": 7}, "annotation": {"project": 8}},
        {"annotation": {"id": 1, "project": 7}, "task": {"id": 1}},
        {"annotation": [{"id": 1, "project": {"id": 7}}]},
    ],
)
def test_an_event_names_its_project_in_several_ways(tell: Tell, jobs: FakeJobs, payload: dict[str, Any]) -> None:
    """As an object, as a number alone, or inside the annotation."""
    tell("ANNOTATION_UPDATED", **payload)
    assert jobs.calls == [("judgement", 7)]
