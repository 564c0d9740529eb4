"""Training cycles as MLflow runs: what they saw, how far they got, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_backend.registry.records import Attempt
from ml_backend.registry.session import Session, metric, run_tag, safe_id

_METRIC_BATCH = 1000  # MLflow's limit per request
_TAG_LIMIT = 5000
_ATTEMPTS = 50
_LATEST_FIRST = ["attributes.start_time DESC"]

Point = tuple[str, float, int]
"""A metric's name, value and step."""


class Runs(Session):
    """Operations on runs."""

    def start_cycle_run(self, project_id: int, workflow_id: str, tags: Mapping[str, str] | None = None) -> str:
        """The id of the run that records a training cycle; the run is created if there is none yet."""
        with self._lock("runs"), self._asking("start a run") as client:
            experiment = self._connected()[1]
            found = client.search_runs([experiment], f"tags.workflow_id = '{safe_id(workflow_id)}'", max_results=1)
            if found:
                return str(found[0].info.run_id)
            given = {"kind": "cycle", "project_id": str(project_id), "workflow_id": workflow_id, "status": "running"}
            made = client.create_run(experiment, tags={**given, **(tags or {})}, run_name=f"cycle {workflow_id}")
            return str(made.info.run_id)

    def note(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags to a run."""
        with self._asking("note tags") as client:
            client.log_batch(run_id, tags=[run_tag(key, value[:_TAG_LIMIT]) for key, value in tags.items()])

    def log_metrics(self, run_id: str, points: Iterable[Point]) -> None:
        """Add points to a run's curves, in batches."""
        now_ms = int(time.time() * 1000)
        with self._asking("log metrics") as client:
            rows = [metric(name, float(value), now_ms, step) for name, value, step in points]
            for start in range(0, len(rows), _METRIC_BATCH):
                client.log_batch(run_id, metrics=rows[start : start + _METRIC_BATCH])

    def log_file(self, run_id: str, path: Path, under: str | None = None) -> None:
        """Store a file with a run, in the folder `under` of its artifacts."""
        with self._asking(f"store {path.name}") as client:
            client.log_artifact(run_id, str(path), under)

    def finish_run(self, run_id: str, status: str, reason: str = "") -> None:
        """Close a cycle's run as `promoted`, `rejected` (it failed a gate) or `failed`, with the reason."""
        self.note(run_id, {"status": status, "reason": reason})
        with self._asking("finish a run") as client:
            client.set_terminated(run_id, "FAILED" if status == "failed" else "FINISHED")

    def attempts(self, project_id: int | None = None) -> list[Attempt]:
        """The latest training cycles of one project or of all, newest first."""
        where = "tags.kind = 'cycle'" + (f" and tags.project_id = '{project_id:d}'" if project_id is not None else "")
        with self._asking("list cycles") as client:
            found = client.search_runs([self._connected()[1]], where, max_results=_ATTEMPTS, order_by=_LATEST_FIRST)
        return [_attempt(run) for run in found]

    def last_attempt(self, project_id: int) -> Attempt | None:
        """The project's latest cycle that saw annotations, however it ended; None if there was none."""
        return next((attempt for attempt in self.attempts(project_id) if attempt.snapshot_at), None)


def _attempt(run: Any) -> Attempt:
    tags: dict[str, str] = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return Attempt(
        workflow_id=tags["workflow_id"],
        status=tags["status"],
        reason=tags.get("reason", ""),
        snapshot_at=tags.get("snapshot_at") or None,
        tags=tags,
    )
