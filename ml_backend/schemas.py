"""What Label Studio sends: checked where it must be right, tolerant of everything that may be added."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from training.errors import DataError


def _project_id(value: object) -> object:
    """Label Studio writes a project as `12.1795380917`: its id, then the second it was created in."""
    if isinstance(value, str):
        return value.partition(".")[0].strip() or None
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2**53 else value
    return value


ProjectId = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_project_id)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SetupRequest(_Request):
    """POST /setup: sent at connect, and with every page that shows the project."""

    project: ProjectId = None
    label_config: str | None = Field(None, alias="schema")
    extra_params: JsonValue = None


class PredictParams(_Request):
    """`params` of POST /predict; `context` is set by interactive labeling only."""

    context: dict[str, Any] | None = None


class PredictRequest(_Request):
    """POST /predict: tasks to answer, in order."""

    tasks: list[dict[str, Any]]
    project: ProjectId = None
    label_config: str | None = None
    params: PredictParams | None = None


class WebhookProject(_Request):
    """The part of a webhook's project that is needed."""

    id: ProjectId = None


class WebhookRequest(_Request):
    """POST /webhook. With "send payload" off only the action comes."""

    action: str = Field(min_length=1)
    project: WebhookProject | None = None

    @property
    def project_id(self) -> int | None:
        """The project it is about, where the payload says."""
        return self.project.id if self.project else None


Request = TypeVar("Request", bound=_Request)


def parse_request(schema: type[Request], body: object) -> Request:
    """Check a request's body.

    Raises:
        DataError: names the first field that can't be used, what it held, and what was expected.
    """
    if not isinstance(body, dict):
        raise DataError("the request's body can't be used", got=body, expected="a JSON object")
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        missing = fault["type"] == "missing"
        raise DataError(
            f"field {field!r} of the request " + ("is missing" if missing else "can't be used"),
            got=None if missing else fault["input"],
            expected=fault["msg"],
        ) from error
