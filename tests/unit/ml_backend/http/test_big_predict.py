"""A /predict of any size over a slow model: in time, complete, fair to others, or turned away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry, FakeVersion
from flask import Flask

from ml_backend.errors import JobsError
from ml_backend.http.app import WEBHOOKS_AT_ONCE, create_app
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.version import AnswerPair
from ml_backend.settings import load_settings

LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt"><Choice value="answer1"/><Choice value="answer2"/></Choices></View>"""
DEADLINE_S = 2.0
MakeApp = Callable[..., Flask]


class SlowVersion:
    """A version that takes its time for each question, and answers nothing while the gate is closed."""

    name = "rankloop-v1"
    judges = False

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.gate = threading.Event()
        self.gate.set()

    def told(self, _settings: object) -> SlowVersion:
        """The same: no project has settings of its own."""
        return self

    def propose(self, questions: Sequence[tuple[str, str]]) -> list[AnswerPair]:
        """Two answers each, after `seconds` each."""
        assert self.gate.wait(30)
        threading.Event().wait(self.seconds * len(questions))
        return [AnswerPair("One.", f"Two to {prompt}", self.name) for _, prompt in questions]


class SlowProposer(Proposer):
    """The real proposer, with the slow version as champion."""

    slow: SlowVersion

    def _load(self, _version: FakeVersion) -> SlowVersion:  # type: ignore[override]  # as much as is used
        return self.slow


@pytest.fixture
def slow() -> SlowVersion:
    """At three milliseconds a question, 5,000 take 15 s."""
    return SlowVersion(0.003)


@pytest.fixture
def make_app(slow: SlowVersion, settings: Any, registry: FakeRegistry, jobs: FakeJobs) -> Iterator[MakeApp]:
    """Makes an app over the slow version."""
    started = []

    def make(**overrides: Any) -> Flask:
        chosen = load_settings(**{**settings.model_dump(), "predict_deadline_s": DEADLINE_S, **overrides})
        proposer = SlowProposer(registry, chosen)  # type: ignore[arg-type]  # a fake of our own edge
        proposer.slow = slow
        proposer.start()
        started.append(proposer)
        assert proposer.wait_until_loaded(30)
        return create_app(chosen, proposer, jobs, registry)  # type: ignore[arg-type]

    yield make
    slow.gate.set()
    for proposer in started:
        proposer.stop()


def _body(count: int, first: int = 0) -> dict[str, Any]:
    tasks = [{"id": first + n, "data": {"prompt": f"question {n}"}} for n in range(count)]
    return {"tasks": tasks, "project": "1.5", "label_config": LIVE}


def _predict(app: Flask, body: Any) -> Any:
    return app.test_client().post("/predict", json=body)


def _timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    answer = ask()
    return time.monotonic() - began, answer


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def test_what_does_not_fit_into_the_time_is_left_to_a_job(make_app: MakeApp, jobs: FakeJobs) -> None:
    """One valid result per task in order within the deadline; one background job does the rest, counted as pending."""
    app = make_app()
    took, answer = _timed(lambda: _predict(app, _body(5000)))
    results = answer.json["results"]
    assert took < DEADLINE_S + 2
    assert len(results) == 5000
    answered = [index for index, result in enumerate(results) if result["result"]]
    assert 50 < len(answered) < 2000
    for index in answered:
        assert results[index]["model_version"] == "rankloop-v1"
        assert f"Two to question {index}" in str(results[index]["result"])
    pending = [result for result in results if not result["result"]]
    assert {str(result) for result in pending} == {
        "{'result': [], 'score': 0.0, 'model_version': 'rankloop-v1-pending'}"
    }
    assert jobs.calls == [("propose", 1)]
    scraped = app.test_client().get("/metrics").text
    assert f'rankloop_predictions_total{{outcome="pending",version="rankloop-v1"}} {float(len(pending))}' in scraped


def test_others_are_answered_meanwhile(make_app: MakeApp) -> None:
    """While 5,000 tasks wait, health, setup and an opened task are answered within Label Studio's timeouts."""
    app = make_app()
    with ThreadPoolExecutor(1) as pool:
        big = pool.submit(_predict, app, _body(5000))
        _until(lambda: "rankloop_queue_waiting 0" not in app.test_client().get("/metrics").text)
        for number in range(10):
            health_s, health = _timed(lambda: app.test_client().get("/health"))
            setup_s, setup = _timed(lambda: app.test_client().post("/setup", json={"project": "1.5", "schema": LIVE}))
            body = _body(1, first=10_000 + number)
            task_s, task = _timed(lambda body=body: _predict(app, body))  # type: ignore[misc]
            assert (health.status_code, setup.status_code, task.status_code) == (200, 200, 200)
            assert health_s < 1.0
            assert setup_s < 3.0
            assert task_s < DEADLINE_S
            assert task.json["results"][0]["result"]
            if big.done():
                break
        assert big.result().status_code == 200


@pytest.mark.parametrize(
    ("limits", "sent"),
    [({"predict_at_once": 2}, (1, 1)), ({"predict_waiting": 3}, (40,))],
    ids=["requests", "questions"],
)
def test_more_than_can_be_answered_is_turned_away(
    make_app: MakeApp, slow: SlowVersion, limits: dict[str, int], sent: tuple[int, ...]
) -> None:
    """Too many requests, or too long a queue: a 503 at once with Retry-After; health stays up, and all recovers."""
    app = make_app(**limits, predict_deadline_s=20.0)
    slow.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        inside = [pool.submit(_predict, app, _body(count, 100 * n)) for n, count in enumerate(sent)]
        _until(lambda: app.test_client().post("/predict", json={"tasks": []}).status_code == 503)
        took, refused = _timed(lambda: _predict(app, _body(1, 9000)))
        assert (refused.status_code, took < 1.0) == (503, True)
        assert int(refused.headers["Retry-After"]) > 0
        assert "busy" in refused.json["error"]
        assert app.test_client().get("/health").status_code == 200
        slow.gate.set()
        assert [answer.result().status_code for answer in inside] == [200] * len(sent)
    assert _predict(app, _body(1, 9001)).status_code == 200
    assert app.test_client().get("/status").json["faults"][0]["kind"] == "OverloadError"


def test_a_job_queue_that_hangs_does_not_take_all_threads(make_app: MakeApp, jobs: FakeJobs) -> None:
    """If the job queue hangs, webhooks wait up to a limit; the next is told to retry, health stays up, none is lost."""
    app = make_app()

    def tell(project: int) -> int:
        payload = {"action": "ANNOTATION_CREATED", "project": {"id": project}}
        return app.test_client().post("/webhook", json=payload).status_code

    jobs.gate.clear()
    with ThreadPoolExecutor(WEBHOOKS_AT_ONCE) as pool:
        inside = [pool.submit(tell, project) for project in range(WEBHOOKS_AT_ONCE)]
        for _ in inside:
            jobs.entered.get(timeout=20)
        took, status = _timed(lambda: tell(WEBHOOKS_AT_ONCE))
        assert (status, took < 1.0) == (503, True)
        assert app.test_client().get("/health").status_code == 200
        jobs.gate.set()
        assert [answer.result() for answer in inside] == [202] * WEBHOOKS_AT_ONCE


def test_a_part_that_is_away_says_when_to_come_back(make_app: MakeApp, jobs: FakeJobs) -> None:
    """A 503 for any other reason has Retry-After as well."""
    jobs.fault = JobsError("the job queue is away")
    answer = make_app().test_client().post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
