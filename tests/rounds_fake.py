"""A Label Studio in memory with one project whose tasks can be judged and added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction


@dataclass(slots=True)
class RoundsProject:
    """Project 7.

    Attributes:
        label_config: its XML.
        fault: raised by the next import.
        stores_before_fault: whether that import is carried out all the same.
        read: how many tasks were listed so far.
    """

    label_config: str
    listed: list[dict[str, Any]] = field(default_factory=list)
    fault: LabelStudioError | None = None
    stores_before_fault: bool = False
    changed: list[tuple[int, list[Mapping[str, Any]]]] = field(default_factory=list)
    read: int = 0

    def add(self, *prompts: str) -> None:
        """Import prompts."""
        self._import([{"data": {"prompt": prompt}} for prompt in prompts])

    def judge(self, number: int, verdict: str, version: str) -> None:
        """Judge a task's pair, which that version wrote."""
        task = self.listed[number - 1]
        config = parse_label_config(self.label_config)
        shown = live_prediction(config, f"{number} {version} one", f"{number} {version} two", version)["result"]
        choice = {"from_name": config.control, "type": "choices", "value": {"choices": [verdict]}}
        task["annotations"].append({"result": [*shown, choice], "was_cancelled": False})
        task["updated_at"] = f"2026-01-01T00:00:{sum(len(t['annotations']) for t in self.listed):02}.000000Z"

    def project(self, _project_id: int) -> Any:
        """Its counts."""
        judged = sum(len(task["annotations"]) for task in self.listed)
        return SimpleNamespace(tasks=len(self.listed), judgements=judged, skips=0)

    def judged_tasks(self, _project_id: int, since: str | None) -> Iterator[dict[str, Any]]:
        """Judged tasks that changed since."""
        for task in self.listed:
            if task["annotations"] and (since is None or task["updated_at"][:19] > since[:19]):
                self.read += 1
                yield task

    def tasks_after(self, _project_id: int, last: int) -> Iterator[dict[str, Any]]:
        """Later tasks."""
        for task in self.listed[last:]:
            self.read += 1
            yield {"id": task["id"], "meta": task["meta"]}

    def open_tasks_up_to(self, _project_id: int, most: int) -> int:
        """How many nobody has judged."""
        return min(most, sum(not task["annotations"] for task in self.listed))

    def proposed_tasks(self, _project_id: int, version: str) -> list[dict[str, Any]]:
        """Open tasks with predictions of this version."""
        opened = [task for task in self.listed if not task["annotations"]]
        chosen = [{**t, "predictions": [p for p in t["predictions"] if p["model_version"] == version]} for t in opened]
        return [task for task in chosen if task["predictions"]]

    def import_tasks(self, _project_id: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add tasks, or fail."""
        fault, self.fault = self.fault, None
        if fault is None or self.stores_before_fault:
            self._import(rows)
        if fault is not None:
            raise fault
        return [task["id"] for task in self.listed[-len(rows) :]]

    def _import(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            made = {"id": len(self.listed) + 1, "data": row["data"], "meta": row.get("meta", {})}
            self.listed.append({**made, "annotations": [], "predictions": [], "is_labeled": True})
