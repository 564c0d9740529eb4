"""Label Studio's objects, reduced to the fields used here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Task = dict[str, Any]
"""A task as Label Studio returns it: `id`, `data`, and any other fields requested."""
Prediction = dict[str, Any]
"""A prediction as Label Studio accepts it: `task`, `result`, `model_version`, `score`."""
Progress = Callable[[int, int], None]
"""Called with the number done and the total."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project. `model_version` says whose predictions its labeling page shows: a backend's title, or a version.

    `judgements` counts annotations except skips, but including imported ones, which Label Studio calls ground truth.
    `created_at` is in seconds since 1970; `skips` counts skipped tasks. `votes_per_task` is how many people are to
    judge each of its tasks.
    """

    id: int
    title: str
    label_config: str
    model_version: str
    shows_predictions: bool
    tasks: int
    judgements: int
    created_at: float | None = None
    skips: int = 0
    votes_per_task: int = 1


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
    extra_params: Any = None

    @property
    def connected(self) -> bool:
        """Whether it answered Label Studio's last request. (The state may also be "training" for a while.)"""
        return self.state in {"CO", "TR", "PR"}


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook; `project` is None for one of the whole organization."""

    id: int
    url: str
    headers: Mapping[str, str] = field(repr=False)  # they carry credentials
    active: bool
    all_actions: bool
    payload: bool
    project: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A project and its ML backend entry for this backend."""

    project: Project
    backend: MLBackend


def versions_of(task: Task) -> set[str]:
    """The versions that a listed task has predictions of (`predictions_model_versions` is comma-separated)."""
    listed = str(task.get("predictions_model_versions") or "")
    return {version.strip() for version in listed.split(",") if version.strip()}
