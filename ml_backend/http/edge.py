"""What applies to every request: an id, credentials, a log line, metrics, and JSON errors."""

from __future__ import annotations

import base64
import logging
import time
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, RequestEntityTooLarge

from ml_backend.errors import RETRY_AFTER_S, EdgeError, OverloadError
from ml_backend.http.logins import FailedLogins
from ml_backend.label_studio import SECRET_HEADER, Guard
from ml_backend.observe import Metrics
from ml_backend.processes import end_request, start_request
from training.errors import DataError, ModelError, RankloopError

MAX_BODY_BYTES = 64 * 1024 * 1024
"""5,000 tasks, the most that Label Studio sends at once, take about 6.5 MB."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",  # no browser may render model output as a page
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer. A page that needs more sets its own policy, which is kept."""
OPEN_PATHS = {"/", "/health"}
"""Health, for everyone. At `/` browsers get a page instead, which is not for everyone."""
REQUEST_ID_HEADER = "X-Request-ID"
_ROUTINE = {*OPEN_PATHS, "/metrics"}
"""Requested every few seconds: a log line for each would drown out the rest."""
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_REMEDIES = {
    400: "the request's body isn't valid JSON; send a JSON object.",
    404: "no such address; /openapi.json lists the existing ones.",
    405: "this address takes another method: POST for /setup, /predict and /webhook, GET for the others.",
    413: f"the request's body is larger than {MAX_BODY_BYTES // 2**20} MB; send fewer tasks at once.",
    415: "the request's content type isn't JSON; send the body with Content-Type: application/json.",
}

logger = logging.getLogger(__name__)


def read_json() -> Any:
    """Parse the request's JSON; Flask answers 415 if the content type isn't JSON.

    Raises:
        BadRequest: the body isn't JSON, or is nested too deeply.
        RequestEntityTooLarge: the body is larger than `MAX_BODY_BYTES`.
    """
    # Werkzeug rejects a Content-Length over the limit, but truncates a chunked body at the limit
    if request.is_json and request.content_length is None and len(request.get_data()) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest("the request's body is nested too deeply; expected a JSON object") from error


def watch_requests(app: Flask, metrics: Metrics) -> None:
    """Give each request an id, and record its outcome in the log and the metrics."""

    @app.before_request
    def begin() -> None:
        g.request_id = start_request(request.headers.get(REQUEST_ID_HEADER))
        g.began = time.perf_counter()
        metrics.began()

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.began
        method, route = _method(), _route()
        metrics.answered(method, route, response.status_code, seconds)
        response.headers[REQUEST_ID_HEADER] = g.request_id
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        level = logging.DEBUG if route in _ROUTINE and response.status_code < 400 else logging.INFO
        facts = {"route": route, "status": response.status_code, "ms": round(1000 * seconds, 1), **g.get("facts", {})}
        logger.log(level, "%s %s answered", method, route, extra=facts)
        return response

    @app.teardown_request
    def over(_: BaseException | None) -> None:
        if "began" in g:
            metrics.ended()
            end_request()


def note(**facts: str | int | None) -> None:
    """Add facts to this request's log line: numbers and ids only, never user text."""
    g.facts = {**g.get("facts", {}), **{name: value for name, value in facts.items() if value is not None}}


_WEBHOOK_REMEDY = f"run `rankloop init-project`, which sets the header {SECRET_HEADER} on the project's webhook"
_START_TRAINING_REMEDY = (
    "; Label Studio's Start Training can't carry that header: set BASIC_AUTH_USER and BASIC_AUTH_PASS as well, "
    "or run `rankloop train`"
)


def ask_for_credentials(app: Flask, guard: Guard) -> None:
    """Reject requests with missing or wrong credentials before reading their body; only health is open.

    Wrong ones are answered slowly. Missing ones are no guess: Label Studio's webhooks have none until they get some.
    """
    logins = FailedLogins()

    @app.before_request
    def check() -> Response | None:
        if request.path in OPEN_PATHS and not (request.path == "/" and wants_page()):
            return None
        if logins.turns_away(request.remote_addr):
            return _turned_away()
        given = _basic_credentials()
        secret = request.headers.get(SECRET_HEADER)
        if request.path == "/webhook":
            admitted = any(guard.admits_webhook(*pair, secret) for pair in given)
            remedy = _WEBHOOK_REMEDY if guard.basic else _WEBHOOK_REMEDY + _START_TRAINING_REMEDY
        else:
            admitted = any(guard.admits(*pair) for pair in given)
            remedy = "give Label Studio the backend's BASIC_AUTH_USER and BASIC_AUTH_PASS: run `rankloop init-project`"
        brought = "Authorization" in request.headers or secret is not None
        if admitted:
            if brought:
                logins.succeeded(request.remote_addr)
            return None
        fault = "wrong credentials" if brought else "no credentials"
        logger.warning("%s %s refused, %s: %s", _method(), _route(), fault, remedy)
        if brought:
            logins.failed(request.remote_addr)
        response = _fault(401, f"{fault} for this address; {remedy}.")
        response.headers["WWW-Authenticate"] = 'Basic realm="rankloop"'
        return response


def _basic_credentials() -> list[tuple[str | None, str | None]]:
    """The request's user and password, in each encoding that its bytes may be in.

    Label Studio sends Latin-1, as Python's requests does, and browsers UTF-8; nothing in the request says which.
    """
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return [(None, None)]
    try:
        raw = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return [(None, None)]
    texts = dict.fromkeys((raw.decode("utf-8", "replace"), raw.decode("latin-1")))
    pairs = [text.partition(":") for text in texts]
    return [(user, password) for user, _, password in pairs]


def wants_page() -> bool:
    """Whether the request prefers a page to JSON, as browsers do; whoever takes anything gets JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def login() -> str:
    """Who the request's Basic credentials are of; empty without any."""
    return _basic_credentials()[0][0] or ""


def _turned_away() -> Response:
    response = _fault(429, "too many failed logins from this address; try again in a moment.")
    response.headers["Retry-After"] = "1"
    return response


def answer_errors(app: Flask, metrics: Metrics) -> None:
    """Answer every error with JSON that says how to fix it; the traceback goes only to the log."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        status = error.code or 500
        response = _fault(status, _REMEDIES.get(status) or error.description or error.name)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(RankloopError)
    def unusable(error: RankloopError) -> Response:
        if isinstance(error, DataError):
            logger.warning("%s %s: %s", _method(), _route(), error)
            return _fault(400, str(error))
        if isinstance(error, OverloadError):
            logger.warning("%s %s: %s", _method(), _route(), error)
        else:
            logger.error("%s %s failed", _method(), _route(), exc_info=error)
        metrics.failed(type(error).__name__, _route(), g.request_id, str(error))
        passing = isinstance(error, EdgeError | ModelError | OverloadError)
        response = _fault(503 if passing else 500, str(error))
        if passing:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        logger.error("%s %s failed", _method(), _route(), exc_info=error)
        message = f"the backend failed to answer {_route()}; its log has the reason under request id {g.request_id}."
        metrics.failed(type(error).__name__, _route(), g.request_id, message)
        return _fault(500, message)


def _route() -> str:
    """The app's route. The path as sent may contain anything, even line breaks or a token."""
    return request.url_rule.rule if request.url_rule else "unknown"


def _method() -> str:
    return request.method if request.method in _METHODS else "OTHER"


def _fault(status: int, message: str) -> Response:
    """A JSON error. The message is also in the status line, which is all that Label Studio shows of a failed /setup."""
    response = jsonify(error=message)
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in message.replace("\n", " "))
    response.status = f"{status} {line[:300]}"
    return response
