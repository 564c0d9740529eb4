"""The HTTP contract with Label Studio, with the payloads it really sends."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from flask import Flask
from flask.testing import FlaskClient

from ml_backend.errors import RegistryError
from ml_backend.http.app import MAX_BODY_BYTES, create_app
from ml_backend.serving.proposer import Proposer
from ml_backend.settings import load_settings

LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt" required="true"><Choice value="1" alias="answer1"/><Choice value="2"
alias="answer2"/><Choice value="Same" alias="tie"/></Choices></View>"""
SETUP = {
    "project": "1.1795380917",
    "schema": LIVE,
    "hostname": "http://localhost:8080",
    "access_token": "dead",
    "extra_params": None,
}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}

MakeClient = Callable[..., FlaskClient]


def _task(number: int, prompt: str | None = "How do I boil an egg?") -> dict[str, Any]:
    return {
        "id": number,
        "data": {"prompt": prompt} if prompt else {},
        "meta": {},
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "is_labeled": False,
        "overlap": 1,
        "inner_id": number,
        "project": 1,
        "annotations": [],
        "predictions": [],
    }


def _predict(*tasks: Any) -> dict[str, Any]:
    return {
        "tasks": list(tasks),
        "project": "1.1795380917",
        "label_config": LIVE,
        "params": {"login": None, "password": None, "context": None},
    }


def _webhook(action: str, **payload: Any) -> dict[str, Any]:
    project = {
        "id": 1,
        "title": "Eggs",
        "label_config": LIVE,
        "model_version": None,
        "created_at": "2026-01-01T00:00:00Z",
    }
    return {"action": action, "project": project, **payload}


@pytest.fixture
def make_client(settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry) -> MakeClient:
    """Makes a client of an app with the given credentials, once the first version is loaded."""

    def make(**overrides: Any) -> FlaskClient:
        chosen = load_settings(**{**settings.model_dump(), **overrides})
        assert proposer.wait_until_loaded(30)
        return _app(chosen, proposer, jobs, registry).test_client()

    return make


def _app(settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry) -> Flask:
    return create_app(settings, proposer, jobs, registry)  # type: ignore[arg-type]  # a fake of our own edge


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    """A client of an app without credentials."""
    return make_client()


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_is_up_before_anything_is_loaded(
    path: str, settings: Any, jobs: FakeJobs, registry: FakeRegistry
) -> None:
    """Health needs nothing: no version, no registry, no credentials."""
    registry.broken = "away"
    idle = Proposer(registry, settings)  # type: ignore[arg-type]
    answer = _app(settings, idle, jobs, registry).test_client().get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "UP", "model_class": "AnswerPairModel"})


def test_setup_names_the_loaded_version(client: FlaskClient) -> None:
    """The version is a string, naming the model that will answer."""
    assert client.post("/setup", json=SETUP).json == {"model_version": "rankloop-v1"}


@pytest.mark.parametrize("extra", [None, {}, "", {"line": None}, {"train_after": 5}, '{"max_new_tokens": 8}'])
def test_setup_takes_a_projects_own_settings(client: FlaskClient, extra: Any) -> None:
    """`extra_params` may be null, as a PATCH of the backend sends it, an object, or its JSON."""
    assert client.post("/setup", json={**SETUP, "extra_params": extra}).status_code == 200


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"lnie": "a"}, "unknown key; got 'lnie'; expected one of line, system_prompt"),
        ({"line": "Two words"}, "extra_params.line can't be used; got \"'Two words'\"; expected a name of 1 to 40"),
        ({"train_after": 0}, "extra_params.train_after can't be used; got '0'; expected a whole number from 1"),
        ({"max_new_tokens": True}, "extra_params.max_new_tokens can't be used; got 'true'"),
        ({"system_prompt": 7}, "extra_params.system_prompt can't be used; got '7'; expected a text"),
        ("text", "isn't JSON"),
        (5, "a int"),
    ],
)
def test_setup_refuses_settings_it_cannot_use(client: FlaskClient, extra: Any, said: str) -> None:
    """A 400 names the key, the value and what was expected; Label Studio shows it."""
    answer = client.post("/setup", json={**SETUP, "extra_params": extra})
    assert answer.status_code == 400
    assert said in answer.json["error"]


def test_each_line_answers_with_its_own_champion(client: FlaskClient, registry: FakeRegistry) -> None:
    """Two projects on two lines: /setup reports the version that is loaded for each, and /predict answers with it. A
    /setup without `extra_params` changes nothing.
    """
    registry.promote("rankloop.a-v2")
    registry.promote("rankloop.b-v3")
    for project, line, version in (("3.5", "a", "rankloop.a-v2"), ("4.5", "b", "rankloop.b-v3")):
        setup = {**SETUP, "project": project, "extra_params": {"line": line}}
        assert client.post("/setup", json=setup).json == {"model_version": version}
        assert client.post("/setup", json={**setup, "extra_params": None}).json == {"model_version": version}
    for project, version in (("3.5", "rankloop.a-v2"), ("4.5", "rankloop.b-v3")):
        (result,) = client.post("/predict", json={**_predict(_task(1)), "project": project}).json["results"]
        assert result["model_version"] == version
    lines = {line["line"]: line for line in client.get("/status").json["lines"]}
    assert {name: (line["champion"], line["loaded"], line["projects"]) for name, line in lines.items()} == {
        "default": ("rankloop-v1", "rankloop-v1", []),
        "a": ("rankloop.a-v2", "rankloop.a-v2", [3]),
        "b": ("rankloop.b-v3", "rankloop.b-v3", [4]),
    }


def test_a_project_has_a_line_of_its_own_unless_it_is_older_than_lines(
    client: FlaskClient, registry: FakeRegistry
) -> None:
    """A project from before the data folder was taken over stays on the default line; a later one gets its own."""
    registry.taken_over = 1000.0
    older, newer = {**SETUP, "project": "3.999"}, {**SETUP, "project": "4.1000"}
    assert client.post("/setup", json=older).json == {"model_version": "rankloop-v1"}
    assert client.post("/setup", json=newer).json == {"model_version": "rankloop.project-4-v1"}


def test_the_answer_length_of_a_project_is_its_own(client: FlaskClient) -> None:
    """One project asks for answers of a single token, and another on the same line doesn't."""
    short = {**SETUP, "project": "3.5", "extra_params": {"line": "a", "max_new_tokens": 1}}
    client.post("/setup", json=short)
    client.post("/setup", json={**SETUP, "project": "4.5", "extra_params": {"line": "a"}})
    lengths = []
    for project in ("3.5", "4.5"):
        results = client.post("/predict", json={**_predict(*(_task(n) for n in range(8))), "project": project}).json
        texts = [region["value"]["text"][0] for result in results["results"] for region in result["result"]]
        lengths.append(max(map(len, texts)))
    assert lengths[0] < lengths[1]


def test_setup_while_loading_answers_with_a_string(settings: Any, jobs: FakeJobs, registry: FakeRegistry) -> None:
    """An unknown version is still a string: an integer or null would break every later task in Label Studio."""
    idle = Proposer(registry, settings)  # type: ignore[arg-type]
    answer = _app(settings, idle, jobs, registry).test_client().post("/setup", json=SETUP)
    assert (answer.status_code, answer.json) == (200, {"model_version": "rankloop-loading"})


def test_setup_says_why_nothing_can_be_loaded(settings: Any, jobs: FakeJobs, registry: FakeRegistry) -> None:
    """A 503 with the reason keeps Label Studio from requesting and storing an empty prediction per opened task."""
    registry.broken = "MLflow is away"
    proposer = Proposer(registry, settings)  # type: ignore[arg-type]
    proposer.start()
    assert not proposer.wait_until_loaded(30)
    answer = _app(settings, proposer, jobs, registry).test_client().post("/setup", json=SETUP)
    proposer.stop()
    assert answer.status_code == 503
    assert "MLflow is away" in answer.json["error"]
    assert "MLflow is away" in answer.status


def test_predict_answers_each_task_in_order(client: FlaskClient) -> None:
    """One result per task, even without a prompt; string versions, float scores, and setup's version."""
    answer = client.post("/predict", json=_predict(_task(3), _task(1, None), _task(2, "What is tea?")))
    assert answer.status_code == 200
    results = answer.json["results"]
    assert [len(result["result"]) for result in results] == [2, 0, 2]
    assert {result["model_version"] for result in results} == {"rankloop-v1"}
    assert all(type(result["score"]) is float for result in results)
    reverse = client.post("/predict", json=_predict(_task(2, "What is tea?"), _task(1, None), _task(3)))
    assert reverse.json["results"] == results[::-1]


def test_predict_without_tasks_is_an_empty_list(client: FlaskClient) -> None:
    """No tasks, no results."""
    assert client.post("/predict", json=_predict()).json == {"results": []}


def test_predict_for_interactive_labeling(client: FlaskClient) -> None:
    """A context is accepted and the task answered."""
    body = {**_predict(_task(1)), "params": {"login": None, "password": None, "context": {"result": []}}}
    assert len(client.post("/predict", json=body).json["results"][0]["result"]) == 2


def test_many_tasks_come_at_once(make_client: MakeClient, jobs: FakeJobs) -> None:
    """Retrieve Predictions sends all tasks at once: what fits into the deadline is answered, the rest comes later."""
    answer = make_client(predict_deadline_s=6.0).post("/predict", json=_predict(*(_task(n) for n in range(5000))))
    results = answer.json["results"]
    assert len(results) == 5000
    pending = {"result": [], "score": 0.0, "model_version": "rankloop-v1-pending"}
    answered = [len(result["result"]) == 2 and result["model_version"] == "rankloop-v1" for result in results]
    assert answered[0]
    assert all(done or result == pending for done, result in zip(answered, results, strict=True))
    assert jobs.calls == ([] if all(answered) else [("propose", 1)])


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        (
            _webhook(
                "ANNOTATION_CREATED",
                annotation={"id": 5, "result": [], "was_cancelled": True, "task": 3},
                task={"id": 3, "data": {"prompt": "x"}, "meta": None},
            ),
            [("judgement", 1)],
        ),
        (_webhook("ANNOTATION_UPDATED", annotation={"id": 5, "result": []}, task=_task(3)), [("judgement", 1)]),
        (_webhook("ANNOTATIONS_CREATED", annotation=[{"id": 5}], task=[_task(3)]), [("judgement", 1)]),
        (_webhook("ANNOTATIONS_DELETED", annotations=[{"id": 5}]), [("judgement", 1)]),
        (_webhook("TASKS_CREATED", tasks=[_task(n) for n in range(5000)]), [("propose", 1), ("judgement", 1)]),
        (_webhook("PROJECT_UPDATED"), [("propose", 1)]),
        (_webhook("TASKS_DELETED", tasks=[{"id": 3}]), []),
        ({"action": "ANNOTATION_CREATED"}, []),
    ],
    ids=lambda value: value["action"] if isinstance(value, dict) else "",
)
def test_webhooks_only_enqueue(
    client: FlaskClient, jobs: FakeJobs, payload: dict[str, Any], asked: list[tuple[str, int]]
) -> None:
    """Each action queues its jobs and is answered with a JSON object; other actions are ignored."""
    answer = client.post("/webhook", json=payload)
    assert answer.status_code == 202
    assert answer.json["status"] == ("queued" if asked else "ignored")
    assert jobs.calls == asked


def test_start_training_answers_with_the_job(client: FlaskClient) -> None:
    """Label Studio needs a JSON object, and reads its `job`."""
    answer = client.post("/webhook", json=_webhook("START_TRAINING"))
    assert answer.status_code == 202
    assert answer.json == {"job": "cycle-1", "status": "queued", "message": "a training cycle was queued"}


def test_a_queue_that_is_away_is_said(client: FlaskClient, jobs: FakeJobs) -> None:
    """An outside system that doesn't answer is a 503 with its own message, not a traceback."""
    jobs.fault = RegistryError("the job queue can't be reached", remedy="Start it.")
    answer = client.post("/webhook", json=_webhook("START_TRAINING"))
    assert (answer.status_code, answer.json) == (503, {"error": "the job queue can't be reached. Start it."})


def test_what_nobody_foresaw_stays_in_the_log(
    client: FlaskClient, jobs: FakeJobs, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a 500 without a traceback; the log has it."""
    jobs.fault = ZeroDivisionError("inside knowledge")
    answer = client.post("/webhook", json=_webhook("START_TRAINING"))
    assert answer.status_code == 500
    assert "inside knowledge" not in answer.text
    assert "log" in answer.json["error"]
    assert "ZeroDivisionError: inside knowledge" in caplog.text


def test_versions_and_status(client: FlaskClient, registry: FakeRegistry) -> None:
    """/versions lists names for Label Studio, and /status the state for people."""
    assert client.get("/versions").json == {"versions": ["rankloop-v1", "rankloop-v2", "rankloop-v3"]}
    status = client.get("/status").json
    assert status["loaded"] == status["champion"] == "rankloop-v1"
    assert status["fault"] is None
    assert status["waiting"] == 0
    assert status["jobs"] == {"running": [], "waiting": []}
    registry.broken = "MLflow is away"
    assert client.get("/status").status_code == 503


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/predict", {"label_config": LIVE}, "'tasks'"),
        ("/predict", {"tasks": "all", "label_config": LIVE}, "'tasks'"),
        ("/predict", {"tasks": [1, 2]}, "'tasks.0'"),
        ("/predict", {"tasks": [_task(1)]}, "label_config"),
        ("/predict", {**_predict(_task(1)), "label_config": "<View>"}, "isn't XML"),
        ("/predict", {**_predict(_task(1)), "project": "abc"}, "'project'"),
        ("/predict", [], "JSON object"),
        ("/setup", {**SETUP, "schema": "<View></View>"}, "no answers to compare"),
        ("/setup", {**SETUP, "schema": 5}, "'schema'"),
        ("/setup", "text", "JSON object"),
        ("/webhook", {"project": {"id": 1}}, "'action'"),
        ("/webhook", {"action": 5}, "'action'"),
        ("/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": "x"}}, "'project.id'"),
        ("/webhook", [], "JSON object"),
    ],
)
def test_a_request_that_cannot_be_used_names_the_fault(
    client: FlaskClient, jobs: FakeJobs, path: str, body: Any, said: str
) -> None:
    """A 400 names the field and what it got, in the body and in the status line (all that Label Studio shows)."""
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert said in answer.json["error"]
    assert said in answer.status
    assert jobs.calls == []


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("GET", "/predict", {}, 405),
        ("DELETE", "/health", {}, 405),
        ("POST", "/predict", {"data": "{", "content_type": "application/json"}, 400),
        ("POST", "/predict", {"data": b"\xff\xfe", "content_type": "application/json"}, 400),
        ("POST", "/predict", {"data": "[" * 200_000, "content_type": "application/json"}, 400),
        ("POST", "/predict", {"data": "", "content_type": "application/json"}, 400),
        ("POST", "/predict", {"data": "null", "content_type": "application/json"}, 400),
        ("POST", "/webhook", {"data": "action=X", "content_type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/webhook", {"data": b" " * (MAX_BODY_BYTES + 1), "content_type": "application/json"}, 413),
    ],
)
def test_every_http_error_is_json(client: FlaskClient, method: str, path: str, options: Any, status: int) -> None:
    """Whatever is wrong, the answer is a JSON object that says how to fix it."""
    answer = client.open(path, method=method, **options)
    assert answer.status_code == status
    assert len(answer.json["error"]) > 20


def test_basic_auth_guards_everything_but_health(make_client: MakeClient) -> None:
    """Missing or wrong credentials get a 401, the right ones are accepted, and health stays open."""
    client = make_client(basic_auth_user="ann", basic_auth_pass="secret")
    wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}
    for headers in ({}, wrong, {"Authorization": "Bearer x"}, {"Authorization": "Basic %%%"}):
        for method, path in [("POST", "/setup"), ("POST", "/predict"), ("GET", "/versions"), ("GET", "/status")]:
            answer = client.open(path, method=method, json={}, headers=headers)
            assert answer.status_code == 401
            assert "rankloop init-project" in answer.json["error"]
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert client.get("/health").status_code == 200
    assert client.post("/setup", json=SETUP, headers=BASIC).status_code == 200


def test_a_webhook_comes_in_by_secret_or_by_basic_auth(make_client: MakeClient, jobs: FakeJobs) -> None:
    """Label Studio's automatic webhook has no Basic auth, so the secret header is accepted instead."""
    client = make_client(basic_auth_user="ann", basic_auth_pass="secret", webhook_secret="s3cret")
    payload = _webhook("ANNOTATION_CREATED")
    for headers in ({}, {"X-Rankloop-Secret": "wrong"}):
        answer = client.post("/webhook", json=payload, headers=headers)
        assert answer.status_code == 401
        assert "rankloop init-project" in answer.json["error"]
    assert jobs.calls == []
    for headers in (BASIC, {"X-Rankloop-Secret": "s3cret"}):
        assert client.post("/webhook", json=payload, headers=headers).status_code == 202
    assert len(jobs.calls) == 2
    assert client.post("/setup", json=SETUP, headers={"X-Rankloop-Secret": "s3cret"}).status_code == 401


def test_a_secret_alone_guards_webhooks_alone(make_client: MakeClient) -> None:
    """Without Basic auth, only webhooks require credentials."""
    client = make_client(webhook_secret="s3cret")
    assert client.post("/webhook", json=_webhook("TASKS_CREATED")).status_code == 401
    assert client.post("/setup", json=SETUP).status_code == 200


def test_a_champion_changes_while_requests_run(client: FlaskClient, registry: FakeRegistry, proposer: Proposer) -> None:
    """No request fails, none mixes versions, and the last champion answers at the end."""
    stop = threading.Event()
    seen: list[set[str]] = []

    def ask(number: int) -> None:
        while not stop.is_set():
            answer = client.application.test_client().post(
                "/predict", json=_predict(*(_task(n) for n in range(number)))
            )
            assert answer.status_code == 200
            assert all(len(result["result"]) == 2 for result in answer.json["results"])
            seen.append({result["model_version"] for result in answer.json["results"]})

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in (1, 2, 5, 9)]
        for name in ("rankloop-v2", "rankloop-v3"):
            registry.promote(name)
            while client.post("/setup", json=SETUP).json["model_version"] != name:
                with proposer._changed:
                    proposer._changed.wait(0.05)
        stop.set()
        for future in asking:
            future.result()
    assert all(len(versions) == 1 for versions in seen)
    assert {"rankloop-v1"} in seen
    assert client.post("/setup", json=SETUP).json["model_version"] == "rankloop-v3"


def test_answers_are_plain_json(client: FlaskClient) -> None:
    """Accept only standard JSON: no NaN, which Label Studio can't read."""
    text = client.post("/predict", json=_predict(_task(1), _task(2, None))).text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the answer"))
