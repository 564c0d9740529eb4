"""Request and response models, from which the OpenAPI description is generated.

Requests are validated where it matters and may have extra fields; tests check responses against their models.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from training.errors import DataError


def _project_id(value: object) -> object:
    """Label Studio writes a project as `12.1795380917`: its id, then its creation time in seconds."""
    if isinstance(value, str):
        number, _, created = value.strip().partition(".")
        return (number or None) if not created or (number and created.isdecimal()) else value
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2**53 else value
    return value


def project_created_at(project: object) -> float | None:
    """When a project was created, in seconds since 1970, from what Label Studio writes for it; see `_project_id`."""
    created = project.strip().partition(".")[2] if isinstance(project, str) else ""
    return float(created) if created.isdecimal() else None


_WrittenProject = Annotated[str, Field(pattern=r"^\s*\d{0,18}\s*(\.\d*)?$", examples=["12.1795380917"])]
ProjectId = Annotated[
    Annotated[int, Field(ge=0, lt=2**63)] | None,
    BeforeValidator(_project_id, json_schema_input_type=_WrittenProject | Annotated[float, Field(ge=0)] | None),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SetupRequest(_Request):
    """POST /setup: sent on connecting, and with every page that shows the project."""

    project: ProjectId = None
    label_config: str | None = Field(None, alias="schema")
    extra_params: JsonValue = None


class PredictParams(_Request):
    """`params` of POST /predict; only interactive labeling sets `context`."""

    context: dict[str, Any] | None = None


class PredictRequest(_Request):
    """POST /predict: tasks to answer, in order."""

    tasks: list[dict[str, Any]]
    project: ProjectId = None
    label_config: str | None = None
    params: PredictParams | None = None


class WebhookProject(_Request):
    """The fields of a webhook's project that we use."""

    id: ProjectId = None
    min_annotations_to_start_training: JsonValue = None


def _as_project(value: object) -> object:
    """A project's number alone stands for the project."""
    return {"id": value} if isinstance(value, int | float | str) and not isinstance(value, bool) else value


class WebhookRequest(_Request):
    """POST /webhook. With "send payload" off, it contains only the action."""

    action: str = Field(min_length=1, max_length=100)
    project: Annotated[
        WebhookProject | None, BeforeValidator(_as_project, json_schema_input_type=WebhookProject | ProjectId)
    ] = None
    annotation: JsonValue = None

    @property
    def project_id(self) -> int | None:
        """The event's project, if the payload or its (first) annotation names it."""
        if self.project is not None and self.project.id is not None:
            return self.project.id
        annotation = self.annotation[0] if isinstance(self.annotation, list) and self.annotation else self.annotation
        try:
            named = WebhookProject.model_validate(
                _as_project(annotation.get("project") if isinstance(annotation, dict) else None)
            )
        except ValidationError:
            return None
        return named.id

    @property
    def sent_at_every_save(self) -> bool:
        """Whether the project makes Label Studio send START_TRAINING before each saved annotation. It can't be told
        from the button's, and starting a cycle each time would train on almost nothing new.
        """
        return bool(self.project and self.project.min_annotations_to_start_training)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HealthAnswer(_Answer):
    """GET /health: the process is alive. Says nothing about models, databases or Label Studio."""

    status: Literal["UP"]
    model_class: str


class SetupAnswer(_Answer):
    """POST /setup: the version that is serving. Always a string: Label Studio breaks on anything else."""

    model_version: str


class Prediction(_Answer):
    """One task's prediction. If the version ends in `-pending`, the result is empty and follows in the background."""

    result: list[dict[str, Any]]
    score: float = Field(ge=0, le=1)
    model_version: str


class PredictAnswer(_Answer):
    """POST /predict: one prediction per task, in the tasks' order."""

    results: list[Prediction]


class WebhookAnswer(_Answer):
    """POST /webhook: the outcome of the event."""

    status: Literal["queued", "running", "refused", "ignored"]
    message: str = Field("", description="for people; may be empty")
    job: str | None = Field(None, description="the training cycle's id, if START_TRAINING queued or found one")


class VersionsAnswer(_Answer):
    """GET /versions: all versions, by line and then oldest first."""

    versions: list[str]


class Fault(_Answer):
    """A request that failed through no fault of its sender."""

    at: float = Field(description="seconds since 1970")
    kind: str
    route: str
    request_id: str = Field(description="identifies the request in the log")
    message: str


class LineStatus(_Answer):
    """A line of versions."""

    line: str
    champion: str | None = Field(description="the version that should be serving")
    challenger: str | None = Field(description="the version that people compare with the champion, if there is one")
    loaded: str | None = Field(description="the version that is in memory; null if the line wasn't asked lately")
    paused_since: str | None = Field(description="since when it starts no training cycles by itself, as ISO 8601")
    versions: list[str]
    projects: list[int] = Field(description="its projects, as far as they have called this server")


class StatusAnswer(_Answer):
    """GET /status: the state of the server and the loop."""

    loaded: str | None = Field(description="the version that is serving, on the line that was asked last")
    champion: str | None = Field(description="the version that should be serving there")
    fault: str | None = Field(description="why a champion can't be loaded")
    lines: list[LineStatus]
    waiting: int = Field(ge=0, description="questions waiting for the model")
    versions: list[str]
    jobs: dict[str, Any] = Field(description="training cycles and background proposals, running, queued and ended")
    faults: list[Fault] = Field(description="the most recent failed requests, latest first")


class ErrorAnswer(_Answer):
    """What is wrong and how to fix it, in one sentence."""

    error: str = Field(min_length=1)


Request = TypeVar("Request", bound=_Request)


def parse_request(schema: type[Request], body: object) -> Request:
    """Validate a request's body.

    Raises:
        DataError: names the first invalid field, describes its value, and says what was expected.
    """
    if not isinstance(body, dict):
        raise DataError(f"the request's body is {_shape(body)}", expected="a JSON object")
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            raise DataError(f"field {field!r} of the request is missing", expected=fault["msg"]) from error
        raise DataError(f"field {field!r} of the request is {_shape(fault['input'])}", expected=fault["msg"]) from error


def _shape(value: object) -> str:
    """Describe a value without its content: prompts and tokens must not get into logs or error messages."""
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "a huge number"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"
