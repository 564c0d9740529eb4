"""The ML backend's Flask app, in Label Studio's protocol: answers are JSON, and every error says how to fix it."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from ml_backend.http.admission import Admission
from ml_backend.http.edge import (
    MAX_BODY_BYTES,
    answer_errors,
    ask_for_credentials,
    note,
    read_json,
    watch_requests,
)
from ml_backend.http.events import pass_on
from ml_backend.http.messages import PredictRequest, SetupRequest, WebhookRequest, parse_request
from ml_backend.http.openapi import describe
from ml_backend.label_studio import Guard
from ml_backend.labels import parse_label_config
from ml_backend.loop import Jobs
from ml_backend.observe import CONTENT_TYPE, LoopFacts, Metrics
from ml_backend.registry import Registry
from ml_backend.serving import AnswerPairModel, Proposer
from ml_backend.settings import Settings
from training.errors import ModelError

WEBHOOKS_AT_ONCE = 40
WEBHOOK_PATIENCE_S = 0.4
"""A burst of webhooks passes in less. If the job queue hangs, waiting webhooks must not take all threads."""
READERS_AT_ONCE = 4


def create_app(settings: Settings, proposer: Proposer, jobs: Jobs, registry: Registry) -> Flask:
    """Build the application from existing parts, without starting or blocking on anything.

    Raises:
        ConfigError: the credentials are only partly configured.
    """
    app = Flask("rankloop", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # their answer wouldn't be JSON, and nobody needs it
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    metrics = Metrics(LoopFacts(proposer, registry, jobs))
    watch_requests(app, metrics)
    guard = Guard.from_settings(settings)
    ask_for_credentials(app, guard)
    answer_errors(app, metrics)
    _add_health(app)
    _add_label_studio_routes(app, settings, proposer, jobs, metrics)
    _add_reading_routes(app, proposer, jobs, registry, metrics)
    _add_descriptions(app, metrics, guard)
    return app


def _add_health(app: Flask) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class=AnswerPairModel.__name__)


def _add_label_studio_routes(app: Flask, settings: Settings, proposer: Proposer, jobs: Jobs, metrics: Metrics) -> None:
    model = AnswerPairModel(proposer, jobs.propose, deadline_s=settings.predict_deadline_s)
    predicting = Admission(
        at_once=settings.predict_at_once, most_waiting=settings.predict_waiting, waiting=lambda: proposer.waiting
    )
    passing_on = Admission(at_once=WEBHOOKS_AT_ONCE, patience_s=WEBHOOK_PATIENCE_S)

    @app.post("/setup")
    def setup() -> Response:
        body = parse_request(SetupRequest, read_json())
        note(project=body.project)
        if body.label_config:
            parse_label_config(body.label_config)  # reject an unusable project when it is connected
        if proposer.version is None and proposer.fault:
            # Label Studio then shows the reason, instead of storing an empty prediction for each task.
            raise ModelError("no version can be loaded", expected="a champion that loads", remedy=proposer.fault)
        return jsonify(model_version=proposer.expected)

    @app.post("/predict")
    def predict() -> Response:
        with predicting.admitted():  # before reading the body: turning a request away should be cheap
            body = parse_request(PredictRequest, read_json())
            note(project=body.project, tasks=len(body.tasks))
            results = model.predict(body.tasks, body.label_config, body.project)
        metrics.predicted(results)
        return jsonify(results=results)

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        event = parse_request(WebhookRequest, read_json())
        with passing_on.admitted():
            outcome = pass_on(event, jobs)
        note(project=event.project_id, outcome=outcome["status"], workflow_id=outcome.get("job"))
        metrics.passed_on(outcome["status"])
        return jsonify(outcome), 202


def _add_reading_routes(app: Flask, proposer: Proposer, jobs: Jobs, registry: Registry, metrics: Metrics) -> None:
    reading = Admission(at_once=READERS_AT_ONCE, patience_s=1.0)

    @app.get("/versions")
    def versions() -> Response:
        with reading.admitted():
            return jsonify(versions=[version.name for version in registry.versions()])

    @app.get("/status")
    def status() -> Response:
        with reading.admitted():
            champion = registry.champion()
            names = [version.name for version in registry.versions()]
            state = jobs.status()
        return jsonify(
            loaded=proposer.version,
            champion=champion.name if champion else None,
            fault=proposer.fault,
            waiting=proposer.waiting,
            versions=names,
            jobs=state,
            faults=metrics.faults(),
        )


def _add_descriptions(app: Flask, metrics: Metrics, guard: Guard) -> None:
    description = describe(guard)

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(description)
