"""What the backend answers: the OpenAPI description is made from these models, and tests hold the answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HealthAnswer(_Answer):
    """GET /health: the process lives. Says nothing of models, databases or Label Studio."""

    status: Literal["UP"]
    model_class: str


class SetupAnswer(_Answer):
    """POST /setup: the version that answers. Always a string: Label Studio breaks on anything else."""

    model_version: str


class Prediction(_Answer):
    """One task's prediction. An empty result of a version that ends in `-pending` is made up for in the background."""

    result: list[dict[str, Any]]
    score: float = Field(ge=0, le=1)
    model_version: str


class PredictAnswer(_Answer):
    """POST /predict: one prediction per task, in the tasks' order."""

    results: list[Prediction]


class WebhookAnswer(_Answer):
    """POST /webhook: what the event led to."""

    status: Literal["queued", "running", "refused", "ignored"]
    message: str = Field("", description="for people, where there is something to say")
    job: str | None = Field(None, description="the training cycle's id, where START_TRAINING made or found one")


class VersionsAnswer(_Answer):
    """GET /versions: all versions, oldest first."""

    versions: list[str]


class Fault(_Answer):
    """A request that failed through no fault of its sender."""

    at: float = Field(description="seconds since 1970")
    kind: str
    route: str
    request_id: str = Field(description="finds the log's lines about it")
    message: str


class StatusAnswer(_Answer):
    """GET /status: how the server and the loop stand."""

    loaded: str | None = Field(description="the version that answers")
    champion: str | None = Field(description="the version that should answer")
    fault: str | None = Field(description="why the champion can't be loaded")
    waiting: int = Field(ge=0, description="questions that wait for the model")
    versions: list[str]
    jobs: dict[str, Any] = Field(description="training cycles and background proposals, running, queued and ended")
    faults: list[Fault] = Field(description="the last failed requests, the latest first")


class ErrorAnswer(_Answer):
    """What is wrong and how to mend it, in a sentence."""

    error: str = Field(min_length=1)
