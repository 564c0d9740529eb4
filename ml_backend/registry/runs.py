"""Training cycles as MLflow runs: what they saw, how far they got, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_backend.registry.records import DEFAULT_LINE, Attempt
from ml_backend.registry.session import Session, metric, run_tag, safe_id

_METRIC_BATCH = 1000  # MLflow's limit per request
_TAG_LIMIT = 5000
_ATTEMPTS = 50
_ATTEMPTS_OF_ALL = 1000
_LATEST_FIRST = ["attributes.start_time DESC"]

Point = tuple[str, float, int]
"""A metric's name, value and step."""


class Runs(Session):
    """Operations on runs."""

    def start_cycle_run(self, project_id: int, workflow_id: str, tags: Mapping[str, str] | None = None) -> str:
        """The id of the run that records a training cycle; the run is created if there is none yet."""
        with self._lock("runs"), self._asking("start a run") as client:
            found = self.run_of(workflow_id)
            if found is not None:
                return found
            given = {"kind": "cycle", "project_id": str(project_id), "workflow_id": workflow_id, "status": "running"}
            made = client.create_run(
                self._connected()[1], tags={**given, **(tags or {})}, run_name=f"cycle {workflow_id}"
            )
            return str(made.info.run_id)

    def run_of(self, workflow_id: str) -> str | None:
        """The id of the run that records a training cycle, if there is one."""
        where = f"tags.workflow_id = '{safe_id(workflow_id)}'"
        with self._asking("find a run") as client:
            found = client.search_runs([self._connected()[1]], where, max_results=1)
        return str(found[0].info.run_id) if found else None

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
        """Close a cycle's run with its status, one of `Attempt`'s, and the reason."""
        self.note(run_id, {"status": status, "reason": reason})
        with self._asking("finish a run") as client:
            client.set_terminated(run_id, {"failed": "FAILED", "cancelled": "KILLED"}.get(status, "FINISHED"))

    def attempts(self, line: str | None = None) -> list[Attempt]:
        """The latest training cycles of one line or of all, newest first."""
        where, most = "tags.kind = 'cycle'", _ATTEMPTS
        if line == DEFAULT_LINE:
            most = _ATTEMPTS_OF_ALL  # MLflow can't ask for runs without a tag, and its oldest cycles name no line
        elif line is not None:
            where += f" and tags.line = '{safe_id(line)}'"
        with self._asking("list cycles") as client:
            found = client.search_runs([self._connected()[1]], where, max_results=most, order_by=_LATEST_FIRST)
        attempts = [attempt_from(run) for run in found]
        return [attempt for attempt in attempts if line is None or attempt.line == line][:_ATTEMPTS]

    def seen_on(self, line: str) -> dict[int, str]:
        """The newest judgement of each project that a cycle of the line took into account, however it ended."""
        seen: dict[int, str] = {}
        for attempt in self.attempts(line):
            if attempt.status != "refused":
                seen = {**attempt.seen, **seen}
        return seen


def attempt_from(run: Any) -> Attempt:
    """A cycle's run as an attempt."""
    tags: dict[str, str] = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return Attempt(
        workflow_id=tags["workflow_id"],
        status=tags["status"],
        reason=tags.get("reason", ""),
        snapshot_at=tags.get("snapshot_at") or None,
        tags=tags,
        began_at=run.info.start_time / 1000,
        ended_at=run.info.end_time / 1000 if run.info.end_time else None,
    )
