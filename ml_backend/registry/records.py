"""The registry's objects, reduced to the fields used here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version; `name` is what Label Studio shows, `created_at` a Unix time in seconds."""

    number: int
    name: str
    run_id: str
    parent: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    created_at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """A training cycle as recorded in its run.

    `snapshot_at` is the time of the newest annotation it saw, as Label Studio wrote it; None if it ended before that.
    `status` is `running`, `promoted`, `rejected` or `failed`, and `reason` says why.
    """

    workflow_id: str
    status: str
    reason: str
    snapshot_at: str | None
    tags: Mapping[str, str]
