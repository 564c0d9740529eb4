"""The ML backend's Flask app, in Label Studio's protocol: answers are JSON, and every error says how to fix it."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Flask, Response, jsonify

from ml_backend.http.admission import Admission
from ml_backend.http.edge import (
    MAX_BODY_BYTES,
    answer_errors,
    ask_for_credentials,
    note,
    read_json,
    wants_page,
    watch_requests,
)
from ml_backend.http.events import pass_on
from ml_backend.http.messages import (
    PredictRequest,
    SetupRequest,
    WebhookRequest,
    parse_request,
    project_created_at,
)
from ml_backend.http.openapi import describe
from ml_backend.http.pages import Pages, pages_for
from ml_backend.http.projects import KnownProjects
from ml_backend.label_studio import Guard, open_label_studio
from ml_backend.labels import parse_label_config
from ml_backend.lines import Connections
from ml_backend.loop import Jobs
from ml_backend.observe import CONTENT_TYPE, LoopFacts, Metrics
from ml_backend.page import Actions, Facts, Server, Site
from ml_backend.registry import LineState, Registry
from ml_backend.serving import AnswerPairModel, Proposer
from ml_backend.settings import Settings
from training.errors import ModelError

WEBHOOKS_AT_ONCE = 40
WEBHOOK_PATIENCE_S = 0.4
"""A burst of webhooks passes in less. If the job queue hangs, waiting webhooks must not take all threads."""
READERS_AT_ONCE = 4
SETUP_PATIENCE_S = 1.0
"""How long /setup waits to learn a new line's champion; Label Studio gives it 3 seconds."""


def create_app(settings: Settings, proposer: Proposer, jobs: Jobs, registry: Registry) -> Flask:
    """Build the application from existing parts, without starting or blocking on anything.

    Raises:
        ConfigError: the credentials are only partly configured.
    """
    app = Flask("rankloop", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # their answer wouldn't be JSON, and nobody needs it
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    connections = _connections(settings, registry)
    projects = KnownProjects(registry.taken_over_at, connections.all if connections else None)
    metrics = Metrics(LoopFacts(proposer, registry, jobs))
    watch_requests(app, metrics)
    guard = Guard.from_settings(settings)
    ask_for_credentials(app, guard)
    answer_errors(app, metrics)
    pages = _pages(settings, proposer, jobs, registry, metrics, connections)
    app.register_blueprint(pages.blueprint())
    _add_health(app, pages)
    _add_label_studio_routes(app, settings, proposer, jobs, metrics, projects)
    _add_reading_routes(app, proposer, jobs, registry, metrics, projects)
    _add_descriptions(app, metrics, guard)
    return app


def _connections(settings: Settings, registry: Registry) -> Connections | None:
    """Knows which projects are connected; None without a key for Label Studio."""
    if settings.label_studio_api_key is None:
        return None
    return Connections(settings, registry, partial(open_label_studio, settings))


def _pages(
    settings: Settings,
    proposer: Proposer,
    jobs: Jobs,
    registry: Registry,
    metrics: Metrics,
    connections: Connections | None,
) -> Pages:
    facts = Facts(registry, jobs, partial(connections.all, fresh=False) if connections else None)
    site = Site(settings, facts, Server(proposer.loaded, lambda: proposer.fault, metrics.faults))
    return pages_for(settings, site, Actions(registry, jobs, facts))


def _add_health(app: Flask, pages: Pages) -> None:
    @app.get("/")
    def root() -> Response:
        answer = pages.home() if wants_page() else health()
        answer.headers["Vary"] = "Accept"
        return answer

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class=AnswerPairModel.__name__)


def _add_label_studio_routes(
    app: Flask, settings: Settings, proposer: Proposer, jobs: Jobs, metrics: Metrics, projects: KnownProjects
) -> None:
    model = AnswerPairModel(proposer, jobs.propose, deadline_s=settings.predict_deadline_s)
    predicting = Admission(
        at_once=settings.predict_at_once, most_waiting=settings.predict_waiting, waiting=lambda: proposer.waiting
    )
    passing_on = Admission(at_once=WEBHOOKS_AT_ONCE, patience_s=WEBHOOK_PATIENCE_S)

    @app.post("/setup")
    def setup() -> Response:
        sent = read_json()
        body = parse_request(SetupRequest, sent)
        note(project=body.project)
        if body.label_config:
            parse_label_config(body.label_config)  # reject an unusable project when it is connected
        known = projects.setup(body.project, project_created_at(sent.get("project")), body.extra_params)
        line = known.line
        version = proposer.expected(line, SETUP_PATIENCE_S)
        proposer.check(line, known.settings)
        fault = proposer.fault_of(line)
        if fault:
            # Label Studio then shows the reason, instead of storing an empty prediction for each task.
            raise ModelError("no version can be loaded", expected="a champion that loads", remedy=fault)
        return jsonify(model_version=version)

    @app.post("/predict")
    def predict() -> Response:
        with predicting.admitted():  # before reading the body: turning a request away should be cheap
            sent = read_json()
            body = parse_request(PredictRequest, sent)
            note(project=body.project, tasks=len(body.tasks))
            known = projects.of(body.project, project_created_at(sent.get("project")))
            results = model.predict(
                body.tasks, body.label_config, body.project, line=known.line, settings=known.settings
            )
        metrics.predicted(results)
        return jsonify(results=results)

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        event = parse_request(WebhookRequest, read_json())
        with passing_on.admitted():
            outcome = pass_on(event, jobs, projects)
        note(project=event.project_id, outcome=outcome["status"], workflow_id=outcome.get("job"))
        metrics.passed_on(outcome["status"])
        return jsonify(outcome), 202


def _add_reading_routes(
    app: Flask, proposer: Proposer, jobs: Jobs, registry: Registry, metrics: Metrics, projects: KnownProjects
) -> None:
    reading = Admission(at_once=READERS_AT_ONCE, patience_s=1.0)

    @app.get("/versions")
    def versions() -> Response:
        with reading.admitted():
            names = [version.name for line in registry.lines() for version in registry.versions(line)]
        return jsonify(versions=names)

    @app.get("/status")
    def status() -> Response:
        with reading.admitted():
            lines = [_line_status(state, registry, proposer, projects) for state in registry.line_states()]
            state = jobs.status()
        loaded = proposer.version
        champions = [line["champion"] for line in lines if line["loaded"] == loaded]
        return jsonify(
            loaded=loaded,
            champion=champions[0] if loaded and champions else lines[0]["champion"],
            fault=proposer.fault,
            lines=lines,
            waiting=proposer.waiting,
            versions=[name for line in lines for name in line["versions"]],
            jobs=state,
            faults=metrics.faults(),
        )


def _line_status(state: LineState, registry: Registry, proposer: Proposer, projects: KnownProjects) -> dict[str, Any]:
    return {
        "line": state.name,
        "champion": state.champion.name if state.champion else None,
        "challenger": state.challenger.name if state.challenger else None,
        "loaded": proposer.loaded().get(state.name),
        "paused_since": state.paused_since,
        "versions": [version.name for version in registry.versions(state.name)],
        "projects": projects.on(state.name),
    }


def _add_descriptions(app: Flask, metrics: Metrics, guard: Guard) -> None:
    description = describe(guard)

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(description)
