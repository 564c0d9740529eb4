"""What Label Studio holds, as far as it matters here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Task = dict[str, Any]
"""A task as Label Studio writes it: `id`, `data`, and what else was asked for."""
Prediction = dict[str, Any]
"""A prediction as Label Studio takes it: `task`, `result`, `model_version`, `score`."""
Progress = Callable[[int, int], None]
"""Told how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project. `model_version` is whose predictions its labeling page shows: a backend's title, or a version.

    `judgements` counts annotations that are no skips, imported ones too, which Label Studio takes for ground truth.
    """

    id: int
    title: str
    label_config: str
    model_version: str
    shows_predictions: bool
    tasks: int
    judgements: int


@dataclass(frozen=True, slots=True)
class MLBackend:
    """An ML backend connected to a project."""

    id: int
    project: int
    url: str
    title: str
    state: str
    error: str
    model_version: str
    basic_auth_user: str

    @property
    def connected(self) -> bool:
        """Whether it answered when Label Studio last asked. (Label Studio also calls it "training" for a while.)"""
        return self.state in {"CO", "TR", "PR"}


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook of a project."""

    id: int
    url: str
    headers: Mapping[str, str] = field(repr=False)  # they carry credentials
    active: bool
    all_actions: bool
    payload: bool


def versions_of(task: Task) -> set[str]:
    """The versions a listed task has predictions of (`predictions_model_versions` is a comma-separated text)."""
    listed = str(task.get("predictions_model_versions") or "")
    return {version.strip() for version in listed.split(",") if version.strip()}
