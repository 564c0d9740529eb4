"""Text from people and models, and credentials, never get into a log line or someone else's answer."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from flask.testing import FlaskClient

from ml_backend.http.app import create_app
from ml_backend.processes.logs import configure_logging
from ml_backend.serving.proposer import Proposer
from ml_backend.settings import load_settings

MARK = "MARKED-7f3a"
LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt"><Choice value="answer1"/><Choice value="answer2"/></Choices></View>"""
PAIRWISE = """<View><Text name="prompt" value="$prompt"/><Text name="answer1" value="$answer1"/>
<Text name="answer2" value="$answer2"/><Pairwise name="comparison" toName="answer1,answer2"/></View>"""
GOOD = {"Authorization": "Basic " + base64.b64encode(f"ann:{MARK}-password".encode()).decode()}
BAD = {"Authorization": "Basic " + base64.b64encode(f"ann:{MARK}-guess".encode()).decode()}
TASK = {"id": 1, "data": {"prompt": f"{MARK} prompt", "answer1": f"{MARK} one", "answer2": f"{MARK} two"}}
SETUP = {"project": "1.5", "schema": LIVE, "access_token": f"{MARK}-token", "extra_params": {"key": MARK}}
PREDICT = {"tasks": [TASK], "project": "1.5", "label_config": LIVE, "params": {"login": MARK, "password": MARK}}
WEBHOOK = {
    "action": "ANNOTATION_CREATED",
    "project": {"id": 1, "title": MARK, "token": MARK},
    "task": TASK,
    "annotation": {"result": [{"value": {"text": [MARK]}}]},
}
REQUESTS: list[tuple[str, Any]] = [
    ("/setup", SETUP),
    ("/setup", [SETUP]),
    ("/setup", {**SETUP, "schema": [MARK]}),
    ("/setup", {**SETUP, "project": MARK}),
    ("/predict", PREDICT),
    ("/predict", {**PREDICT, "label_config": PAIRWISE}),
    ("/predict", {**PREDICT, "label_config": None}),
    ("/predict", {**PREDICT, "tasks": MARK}),
    ("/predict", {**PREDICT, "tasks": [MARK]}),
    ("/predict", {**PREDICT, "tasks": {"prompt": MARK}}),
    ("/predict", {**PREDICT, "params": MARK}),
    ("/predict", MARK),
    ("/webhook", WEBHOOK),
    ("/webhook", [WEBHOOK]),
    ("/webhook", {**WEBHOOK, "action": {"text": MARK}}),
    ("/webhook", {**WEBHOOK, "action": "START_TRAINING"}),
    ("/webhook", {**WEBHOOK, "project": MARK}),
    (f"/{MARK}", {}),
    (f"/setup/{MARK}%0aforged", {}),
    (f"/predict?token={MARK}", PREDICT),
]


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """The log as the server writes it; logging is restored afterwards."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    stream = io.StringIO()
    configure_logging(request.param, stream=stream)
    yield stream
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.fixture
def client(settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry) -> FlaskClient:
    """A client of an app with credentials, whose champion has a reward model."""
    secrets = {"basic_auth_user": "ann", "basic_auth_pass": f"{MARK}-password", "webhook_secret": f"{MARK}-secret"}
    chosen = load_settings(**{**settings.model_dump(), **secrets})
    assert proposer.wait_until_loaded(30)
    return create_app(chosen, proposer, jobs, registry).test_client()  # type: ignore[arg-type]


def test_no_request_leaves_its_texts_in_the_log(client: FlaskClient, log: io.StringIO) -> None:
    """Valid and invalid requests with every kind of secret: the log has a line for each, and the mark in none."""
    answers = []
    for path, body in REQUESTS:
        for headers in (GOOD, BAD, {"X-Rankloop-Secret": f"{MARK}-guess"}, {"X-Request-ID": f"{MARK} {MARK}"}):
            answer = client.post(path, json=body, headers=headers)
            if answer.status_code >= 400:
                answers.append(answer.text + str(answer.headers))
    for path in ("/status", "/metrics", "/versions", "/openapi.json"):
        answers.append(client.get(path, headers=GOOD).text)
    assert log.getvalue().count("answered") == 4 * len(REQUESTS) + 3  # /metrics is routine
    assert MARK not in log.getvalue()
    assert not [answer for answer in answers if MARK in answer]
    assert "forged" not in log.getvalue()


def test_no_answer_of_the_model_is_logged(client: FlaskClient, log: io.StringIO) -> None:
    """The model's answers go only to the annotator."""
    tasks = [{"id": number, "data": {"prompt": f"What is number {number}?"}} for number in range(4)]
    found = client.post("/predict", json={**PREDICT, "tasks": tasks}, headers=GOOD).json["results"]
    texts = [text for result in found for region in result["result"] for text in region["value"]["text"]]
    assert len(texts) == 8
    assert not [text for text in texts if len(text) > 3 and text in log.getvalue()]


def test_a_request_s_id_ends_with_it(client: FlaskClient, log: io.StringIO) -> None:
    """What the same thread logs later, e.g. gunicorn, doesn't have the id of a finished request."""
    client.get("/versions", headers={**GOOD, "X-Request-ID": "abc-1"})
    before = log.getvalue().count("abc-1")
    logging.getLogger("other").warning("later")
    assert before > 0
    assert log.getvalue().count("abc-1") == before


def test_a_line_says_what_happened(client: FlaskClient, log: io.StringIO) -> None:
    """The log has the request's id, project, number of tasks and outcome."""
    client.post("/predict", json=PREDICT, headers={**GOOD, "X-Request-ID": "abc-1"})
    answer = client.post("/webhook", json={**WEBHOOK, "action": "START_TRAINING"}, headers=GOOD)
    for said in ("abc-1", "/predict", "tasks", "cycle-1", answer.headers["X-Request-ID"]):
        assert said in log.getvalue()


@pytest.mark.parametrize("planted", [ZeroDivisionError, KeyError])
def test_a_fault_nobody_foresaw_tells_only_where_to_look(
    planted: Callable[[str], Exception], client: FlaskClient, jobs: FakeJobs
) -> None:
    """The answer names the id under which the log has the traceback, and no details of the error."""
    jobs.fault = planted(MARK)
    answer = client.post("/webhook", json=WEBHOOK, headers=GOOD)
    assert answer.status_code == 500
    assert MARK not in answer.text
    assert answer.headers["X-Request-ID"] in answer.json["error"]
    fault = client.get("/status", headers=GOOD).json["faults"][0]
    assert fault["request_id"] == answer.headers["X-Request-ID"]
    assert MARK not in str(fault)
