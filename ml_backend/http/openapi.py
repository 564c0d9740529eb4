"""The OpenAPI description served at /openapi.json, generated from the request and response models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ml_backend.http.messages import (
    ErrorAnswer,
    HealthAnswer,
    PredictAnswer,
    PredictRequest,
    SetupAnswer,
    SetupRequest,
    StatusAnswer,
    VersionsAnswer,
    WebhookAnswer,
    WebhookRequest,
)
from ml_backend.label_studio import SECRET_HEADER, Guard

_REQUESTS = (SetupRequest, PredictRequest, WebhookRequest)
_ANSWERS = (HealthAnswer, SetupAnswer, PredictAnswer, WebhookAnswer, VersionsAnswer, StatusAnswer, ErrorAnswer)
_REFERENCE = "#/components/schemas/{model}"
_FAULTS = {
    "400": "the request is invalid",
    "401": "missing or wrong credentials",
    "429": "too many failed logins from this address; try again after Retry-After seconds",
    "413": "the body is too large",
    "415": "the body isn't JSON",
    "500": "the backend failed; its log says why",
    "503": "busy, or a part it needs is down; try again after Retry-After seconds",
}

Security = list[dict[str, list[str]]]


def describe(guard: Guard) -> dict[str, Any]:
    """Build the description as JSON-serializable data.

    Args:
        guard: the credentials that the server requires, which determine the security of each operation.
    """
    _, schemas = models_json_schema(
        [(model, "validation") for model in (*_REQUESTS, *_ANSWERS)], by_alias=True, ref_template=_REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rankloop's Label Studio ML backend",
            "version": version("rankloop"),
            "description": "Speaks Label Studio's ML backend protocol. Errors are JSON and say how to fix them.",
        },
        "paths": _paths(guard),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "secret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
            },
        },
    }


def _paths(guard: Guard) -> dict[str, Any]:
    basic: Security = [{"basic": []}] if guard.basic else []
    either: Security = [*basic, {"secret": []}] if guard.secret else basic
    own = {"type": "object", "description": "this description"}
    text = _content({"type": "string", "description": "Prometheus' text format"}, "text/plain")
    return {
        "/": {"get": _operation("root", _json(HealthAnswer), [])},
        "/health": {"get": _operation("health", _json(HealthAnswer), [])},
        "/setup": {"post": _posting("setup", SetupRequest, SetupAnswer, basic)},
        "/predict": {"post": _posting("predict", PredictRequest, PredictAnswer, basic)},
        "/webhook": {"post": _posting("webhook", WebhookRequest, WebhookAnswer, either, status="202")},
        "/versions": {"get": _operation("versions", _json(VersionsAnswer), basic)},
        "/status": {"get": _operation("status", _json(StatusAnswer), basic)},
        "/metrics": {"get": _operation("metrics", text, basic)},
        "/openapi.json": {"get": _operation("openapi", _content(own), basic)},
    }


def _posting(
    name: str, body: type[BaseModel], answer: type[BaseModel], security: Security, *, status: str = "200"
) -> dict[str, Any]:
    operation = _operation(name, _json(answer), security, status=status, faults=tuple(_FAULTS))
    return {**operation, "summary": body.__doc__, "requestBody": {"required": True, "content": _json(body)}}


def _operation(
    name: str,
    content: dict[str, Any],
    security: Security,
    *,
    status: str = "200",
    faults: tuple[str, ...] = ("401", "429", "500", "503"),
) -> dict[str, Any]:
    responses = {code: {"description": _FAULTS[code], "content": _json(ErrorAnswer)} for code in faults}
    responses[status] = {"description": "answered", "content": content}
    return {"operationId": name, "security": security, "responses": responses}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return _content({"$ref": _REFERENCE.format(model=model.__name__)})


def _content(schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": schema}}
