"""The OpenAPI description that the backend serves at /openapi.json, made from the models that check requests."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ml_backend.answers import (
    ErrorAnswer,
    HealthAnswer,
    PredictAnswer,
    SetupAnswer,
    StatusAnswer,
    VersionsAnswer,
    WebhookAnswer,
)
from ml_backend.auth import SECRET_HEADER
from ml_backend.schemas import PredictRequest, SetupRequest, WebhookRequest

_REQUESTS = (SetupRequest, PredictRequest, WebhookRequest)
_ANSWERS = (HealthAnswer, SetupAnswer, PredictAnswer, WebhookAnswer, VersionsAnswer, StatusAnswer, ErrorAnswer)
_REFERENCE = "#/components/schemas/{model}"
_BASIC: list[dict[str, list[str]]] = [{"basic": []}]
_FAULTS = {
    "400": "the request can't be used",
    "401": "no or wrong credentials",
    "413": "the body is too large",
    "415": "the body is no JSON",
    "500": "the backend failed; its log says why",
    "503": "busy, or a part it needs is away; try again after Retry-After seconds",
}
_READING_FAULTS = ("401", "500", "503")


def describe() -> dict[str, Any]:
    """The description, as JSON can hold it."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in (*_REQUESTS, *_ANSWERS)], by_alias=True, ref_template=_REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rankloop's Label Studio ML backend",
            "version": version("rankloop"),
            "description": "Speaks Label Studio's ML backend protocol. Errors are JSON and say what to mend.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "secret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
            },
        },
    }


def _paths() -> dict[str, Any]:
    either: list[dict[str, list[str]]] = [*_BASIC, {"secret": []}]
    return {
        "/": {"get": _operation("root", HealthAnswer, security=[], faults=())},
        "/health": {"get": _operation("health", HealthAnswer, security=[], faults=())},
        "/setup": {"post": _operation("setup", SetupAnswer, SetupRequest)},
        "/predict": {"post": _operation("predict", PredictAnswer, PredictRequest)},
        "/webhook": {"post": _operation("webhook", WebhookAnswer, WebhookRequest, status="202", security=either)},
        "/versions": {"get": _operation("versions", VersionsAnswer, faults=_READING_FAULTS)},
        "/status": {"get": _operation("status", StatusAnswer, faults=_READING_FAULTS)},
        "/metrics": {"get": _text_operation("metrics", "Prometheus' text format.")},
        "/openapi.json": {"get": _description_operation()},
    }


def _operation(
    name: str,
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    *,
    status: str = "200",
    security: list[dict[str, list[str]]] = _BASIC,
    faults: tuple[str, ...] = tuple(_FAULTS),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": (body or answer).__doc__,
        "security": security,
        "responses": {
            status: {"description": "answered", "content": _json(answer)},
            **{code: {"description": _FAULTS[code], "content": _json(ErrorAnswer)} for code in faults},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _text_operation(name: str, description: str) -> dict[str, Any]:
    faults = {code: {"description": _FAULTS[code], "content": _json(ErrorAnswer)} for code in ("401", "500")}
    text = {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"operationId": name, "summary": description, "security": _BASIC, "responses": {"200": text, **faults}}


def _description_operation() -> dict[str, Any]:
    faults = {code: {"description": _FAULTS[code], "content": _json(ErrorAnswer)} for code in ("401", "500")}
    own = {"description": "this description", "content": {"application/json": {"schema": {"type": "object"}}}}
    summary = "GET /openapi.json: this description."
    return {"operationId": "openapi", "summary": summary, "security": _BASIC, "responses": {"200": own, **faults}}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
