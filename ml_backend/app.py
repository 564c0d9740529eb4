"""The ML backend over HTTP, as Label Studio speaks it: every answer is JSON, every fault says how to mend it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import BadRequest, HTTPException

from ml_backend.answer_pair_model import AnswerPairModel, JobQueue
from ml_backend.auth import SECRET_HEADER, Guard
from ml_backend.schemas import PredictRequest, SetupRequest, WebhookRequest, parse_request
from training.errors import DataError, EdgeError, ModelError, RankloopError

if TYPE_CHECKING:
    from ml_backend.proposer import Proposer
    from ml_backend.registry import Registry
    from ml_backend.settings import Settings

MAX_BODY_BYTES = 64 * 1024 * 1024
"""5,000 tasks, the most Label Studio sends at once, are about 6.5 MB."""
OPEN_PATHS = {"/", "/health"}
_REMEDIES = {
    400: "the request's body isn't JSON that can be read; send a JSON object.",
    404: "no such address; the backend has /health, /setup, /predict, /webhook, /versions and /status.",
    405: "this address takes another method: POST for /setup, /predict and /webhook, GET for the others.",
    413: f"the request's body is larger than {MAX_BODY_BYTES // 2**20} MB; send fewer tasks at once.",
    415: "the request's body has no JSON content type; send it with Content-Type: application/json.",
}

logger = logging.getLogger(__name__)


def create_app(settings: Settings, proposer: Proposer, jobs: JobQueue, registry: Registry) -> Flask:
    """Build the application around parts that are already there; starts nothing and blocks on nothing.

    Raises:
        ConfigError: the credentials are half configured.
    """
    app = Flask("rankloop")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    _ask_for_credentials(app, Guard.from_settings(settings))
    _answer_errors(app)
    _add_health(app)
    _add_label_studio_routes(app, settings, proposer, jobs)
    _add_reading_routes(app, proposer, jobs, registry)
    return app


def _add_health(app: Flask) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class=AnswerPairModel.__name__)


def _add_label_studio_routes(app: Flask, settings: Settings, proposer: Proposer, jobs: JobQueue) -> None:
    def model(label_config: str | None, project_id: int | None) -> AnswerPairModel:
        return AnswerPairModel(
            label_config,
            proposer,
            jobs,
            model_name=settings.model_name,
            deadline_s=settings.predict_deadline_s,
            project_id=project_id,
        )

    @app.post("/setup")
    def setup() -> Response:
        body = parse_request(SetupRequest, _json())
        asked = model(body.label_config, body.project)
        if proposer.version is None and proposer.fault:
            # Label Studio then shows the reason, and doesn't store empty predictions task by task.
            raise ModelError("no version can be loaded", expected="a champion that loads", remedy=proposer.fault)
        return jsonify(model_version=asked.model_version)

    @app.post("/predict")
    def predict() -> Response:
        body = parse_request(PredictRequest, _json())
        context = body.params.context if body.params else None
        return jsonify(results=model(body.label_config, body.project).predict(body.tasks, context))

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        payload = _json()
        body = parse_request(WebhookRequest, payload)
        return jsonify(model(None, body.project_id).fit(body.action, payload)), 202


def _add_reading_routes(app: Flask, proposer: Proposer, jobs: JobQueue, registry: Registry) -> None:
    @app.get("/versions")
    def versions() -> Response:
        return jsonify(versions=[version.name for version in registry.versions()])

    @app.get("/status")
    def status() -> Response:
        champion = registry.champion()
        return jsonify(
            loaded=proposer.version,
            champion=champion.name if champion else None,
            fault=proposer.fault,
            waiting=proposer.waiting,
            versions=[version.name for version in registry.versions()],
            jobs=jobs.status(),
        )


def _json() -> Any:
    """The request's JSON; Flask answers 415 where the content type isn't JSON.

    Raises:
        BadRequest: no JSON, or nested too deep to read.
    """
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest("the request's body is nested too deep; expected a JSON object") from error


def _ask_for_credentials(app: Flask, guard: Guard) -> None:
    @app.before_request
    def check() -> Response | None:
        if request.path in OPEN_PATHS:
            return None
        basic = request.authorization
        username, password = (basic.username, basic.password) if basic and basic.type == "basic" else (None, None)
        secret = request.headers.get(SECRET_HEADER)
        if request.path == "/webhook":
            admitted = guard.admits_webhook(username, password, secret)
            remedy = f"run `rankloop init-project`, which sets the header {SECRET_HEADER} on the project's webhook"
        else:
            admitted = guard.admits(username, password)
            remedy = "give Label Studio the backend's BASIC_AUTH_USER and BASIC_AUTH_PASS: run `rankloop init-project`"
        if admitted:
            return None
        brought = "no credentials" if basic is None and secret is None else "wrong credentials"
        logger.warning("%s %s refused, %s: %s", request.method, request.path, brought, remedy)
        response = _fault(401, f"{brought} for {request.path}; {remedy}.")
        response.headers["WWW-Authenticate"] = 'Basic realm="rankloop"'
        return response


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        status = error.code or 500
        return _fault(status, _REMEDIES.get(status) or error.description or error.name)

    @app.errorhandler(RankloopError)
    def unusable(error: RankloopError) -> Response:
        if isinstance(error, DataError):
            logger.warning("%s %s: %s", request.method, request.path, error)
            return _fault(400, str(error))
        logger.error("%s %s failed", request.method, request.path, exc_info=error)
        return _fault(503 if isinstance(error, EdgeError | ModelError) else 500, str(error))

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.path, exc_info=error)
        return _fault(500, f"the backend failed to answer {request.path}; its log has the reason.")


def _fault(status: int, message: str) -> Response:
    """A JSON error. The message is in the status line as well: of a failed /setup Label Studio shows only that."""
    response = jsonify(error=message)
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in message.replace("\n", " "))
    response.status = f"{status} {line[:300]}"
    return response
