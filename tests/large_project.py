"""A fake Label Studio with one project of a hundred thousand tasks, made up as they are asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_label_studio import Answer, FakeLabelStudio, fake_label_studio

LABEL_CONFIG = (Path(__file__).parent.parent / "label_config.xml").read_text(encoding="utf-8")
PROJECT = 7
_MOMENT = "2026-01-02T03:04:05.000000Z"


@dataclass(slots=True)
class LargeProject:
    """Project 7: the first tasks are judged, the others are open.

    Attributes:
        size: the number of tasks.
        judged: how many of them, from the first one on, have one judgement.
        connected: whether our backend is.
        url: the backend's address.
        refused: tasks whose predictions Label Studio doesn't take.
        stored: the versions of each task's predictions.
        largest_page: the most tasks that were asked for at once.
    """

    size: int = 100_000
    judged: int = 0
    connected: bool = True
    url: str = "http://localhost:9090"
    title: str = "rankloop"
    refused: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    stored: dict[int, list[str]] = field(default_factory=dict)
    largest_page: int = 0

    def by_version(self) -> Counter[str]:
        """How many predictions of each version are stored."""
        return Counter(version for versions in self.stored.values() for version in versions)

    @contextmanager
    def served(self) -> Iterator[FakeLabelStudio]:
        """Serve it until the context exits."""
        with fake_label_studio() as fake:
            fake.answers |= {
                "GET /api/projects/": lambda _: (200, {"count": 1, "results": [self._project()]}),
                f"GET /api/projects/{PROJECT}/": lambda _: (200, self._project()),
                "GET /api/webhooks/": lambda _: (200, [self._webhook()] if self.connected else []),
                "GET /api/ml/": lambda _: (200, [self._backend()] if self.connected else []),
                "GET /api/tasks/": self._tasks,
                f"GET /api/projects/{PROJECT}/export": lambda _: (200, self._judged_tasks()),
                f"POST /api/projects/{PROJECT}/import/predictions": self._import,
            }
            yield fake

    def _project(self) -> dict[str, Any]:
        return {
            "id": PROJECT,
            "title": "large",
            "label_config": LABEL_CONFIG,
            "model_version": self.title,
            "show_collab_predictions": True,
            "task_number": self.size,
            "total_annotations_number": self.judged,
        }

    def _webhook(self) -> dict[str, Any]:
        return {"id": 1, "project": PROJECT, "url": f"{self.url}/webhook", "is_active": True, "headers": {}}

    def _backend(self) -> dict[str, Any]:
        return {"id": 1, "project": PROJECT, "url": self.url, "title": self.title, "state": "CO"}

    def _tasks(self, asked: dict[str, Any]) -> Answer:
        """A page of tasks, by the Data Manager filters that the loop uses."""
        first, last = 1, self.size
        changed_later = False
        for item in json.loads(asked["query"])["filters"]["items"]:
            name, operator, value = item["filter"].removeprefix("filter:tasks:"), item["operator"], item["value"]
            match name, operator:
                case "id", "greater":
                    first = max(first, value + 1)
                case "id", "in":
                    first, last = max(first, value["min"]), min(last, value["max"])
                case "total_annotations", "equal":
                    first = max(first, self.judged + 1)
                case "total_annotations", "greater":
                    last = min(last, self.judged)
                case "cancelled_annotations", "greater":
                    last = 0
                case "cancelled_annotations", "equal":
                    pass
                case "updated_at", "greater":
                    changed_later = value >= _MOMENT
                case _:
                    raise AssertionError(item)
        ids: Sequence[int] = range(first, 1 if changed_later else last + 1)
        page_size = int(asked["page_size"])
        self.largest_page = max(self.largest_page, page_size)
        fields = asked["include"].split(",")
        tasks = [{name: self._task(number)[name] for name in fields if name in _FIELDS} for number in ids[:page_size]]
        return 200, {"total": len(ids), "total_annotations": 0, "total_predictions": 0, "tasks": tasks}

    def _judged_tasks(self) -> list[dict[str, Any]]:
        return [self._task(number) for number in range(1, self.judged + 1)]

    def _task(self, number: int) -> dict[str, Any]:
        judgement = {"id": number, "result": [{"type": "choices"}], "was_cancelled": False, "updated_at": _MOMENT}
        return {
            "id": number,
            "data": {"prompt": f"What is tea number {number}?"},
            "annotations": [judgement] if number <= self.judged else [],
            "predictions_model_versions": ",".join(self.stored.get(number, [])),
            "updated_at": _MOMENT,
        }

    def _import(self, body: Any) -> Answer:
        """Store predictions, all or none if one's task is gone; those of refused tasks are dropped without a word."""
        if any(item["task"] in self.gone for item in body):
            return 400, {"detail": "Validation error", "validation_errors": {"non_field_errors": ["no such task"]}}
        taken = [item for item in body if item["task"] not in self.refused]
        for item in taken:
            self.stored.setdefault(item["task"], []).append(item["model_version"])
        return 201, {"created": len(taken)}


_FIELDS = {"id", "data", "annotations", "predictions_model_versions", "updated_at"}
