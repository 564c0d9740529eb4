"""What the registry holds, as far as it matters here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version; `name` is what Label Studio shows. `created_at` is in seconds since 1970."""

    number: int
    name: str
    run_id: str
    parent: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    created_at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """A training cycle as its run remembers it.

    `snapshot_at` is the time of the newest annotation it has seen, as Label Studio wrote it; None where it ended
    before. `status` is `running`, `promoted`, `rejected` or `failed`, and `reason` says why.
    """

    workflow_id: str
    status: str
    reason: str
    snapshot_at: str | None
    tags: Mapping[str, str]
