"""An in-memory Label Studio with one judged project of live pairs, for tests of training cycles."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction

LABEL_CONFIG = (Path(__file__).parent.parent / "label_config.xml").read_text(encoding="utf-8")
_WORDS = ["Put", "it", "into", "hot", "boiling", "water", "for", "eight", "minutes", ".", "Leaves", "in"]


@dataclass(slots=True)
class JudgedProject:
    """Project 7. Its one annotator prefers the shorter answer; every tenth task is skipped.

    Attributes:
        judged: how many of the tasks, from the first one on, have been judged so far.
        stored: predictions that were stored.
        preferred: a version whose answer the annotator prefers to that of `rankloop-v1`; else both are the latter's.
    """

    size: int = 60
    judged: int = 60
    url: str = "http://localhost:9090"
    preferred: str | None = None
    stored: list[Mapping[str, Any]] = field(default_factory=list)
    label_config: str = LABEL_CONFIG
    extra_params: Mapping[str, Any] = field(default_factory=lambda: {"line": "default"})

    def project(self, _project_id: int) -> Any:
        """The project."""
        counts = {"tasks": self.size, "judgements": self.judged, "skips": 0, "votes_per_task": 1}
        return SimpleNamespace(
            id=7, label_config=self.label_config, model_version="rankloop", created_at=None, **counts
        )

    def projects(self) -> list[Any]:
        """The only project."""
        return [self.project(7)]

    def all_webhooks(self) -> list[Any]:
        """No webhook: the project shows our predictions."""
        return []

    def backends(self, _project_id: int) -> list[Any]:
        """Its backend."""
        return [SimpleNamespace(url=self.url, extra_params=self.extra_params)]

    def tasks(self, _project_id: int) -> list[dict[str, Any]]:
        """All tasks."""
        return [{"id": number, "data": {"prompt": self._prompt(number)}} for number in range(1, self.size + 1)]

    def export_tasks(self, _project_id: int) -> list[dict[str, Any]]:
        """The judged or skipped tasks."""
        return [{**task, "annotations": [self._annotation(task["id"])]} for task in self.tasks(7)[: self.judged]]

    def judgements_since(self, _project_id: int, since: str | None) -> tuple[int, str | None]:
        """How many judgements there are after a moment, without skips, and when the newest was made."""
        annotations = [task["annotations"][0] for task in self.export_tasks(7)]
        moments = [a["updated_at"] for a in annotations if not a["was_cancelled"]]
        new = [moment for moment in moments if since is None or moment > since]
        return len(new), max(new, default=None)

    def tasks_to_propose(self, _project_id: int, version: str) -> list[dict[str, Any]]:
        """Open tasks without a prediction of this version."""
        have = {item["task"] for item in self.stored if item["model_version"] == version}
        return [task for task in self.tasks(7)[self.judged :] if task["id"] not in have]

    def judged_tasks(self, project_id: int, _since: str | None) -> list[dict[str, Any]]:
        """The judged or skipped tasks."""
        return self.export_tasks(project_id)

    def proposed_tasks(self, _project_id: int, version: str) -> list[dict[str, Any]]:
        """Open tasks with a prediction of this version."""
        stored = {
            item["task"]: {**item, "id": 1000 + place}
            for place, item in enumerate(self.stored)
            if item["model_version"] == version
        }
        opened = self.tasks(7)[self.judged :]
        return [{**task, "predictions": [stored[task["id"]]]} for task in opened if task["id"] in stored]

    def change_prediction(self, prediction_id: int, result: Sequence[Mapping[str, Any]], _score: float | None) -> None:
        """Change what a stored prediction says."""
        place = prediction_id - 1000
        self.stored[place] = {**self.stored[place], "result": list(result)}

    def replace_predictions(self, _project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store predictions."""
        self.stored += predictions
        return len(predictions)

    def runs_low(self, project_id: int, version: str) -> bool:
        """Whether any open task has no prediction of this version."""
        return bool(self.tasks_to_propose(project_id, version))

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Used like opening a connection."""
        yield self

    def _prompt(self, number: int) -> str:
        return f"What is tea number {number}?"

    def _annotation(self, number: int) -> dict[str, Any]:
        chance = random.Random(number)
        lengths = chance.sample(range(2, 12), 2)
        first, second = (" ".join(chance.choices(_WORDS, k=length)) for length in lengths)
        authors = ("rankloop-v1", self.preferred or "rankloop-v1")
        if number % 2:
            authors = authors[::-1]
        config = parse_label_config(LABEL_CONFIG)
        shown = live_prediction(config, first, second, "rankloop-v1", authors=authors if self.preferred else None)
        better = authors.index(self.preferred) if self.preferred else int(lengths[0] >= lengths[1])
        verdict = {
            "type": "choices",
            "from_name": "verdict",
            "to_name": "prompt",
            "value": {"choices": [("answer1", "answer2")[better]]},
        }
        moment = f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000000+00:00"
        return {
            "id": number,
            "completed_by": 1,
            "was_cancelled": number % 10 == 0,
            "result": [*shown["result"], verdict],
            "created_at": moment,
            "updated_at": moment,
        }


def tiny_training(folder: Path, **ppo: Any) -> Path:
    """A file of training settings with which a cycle on a tiny model takes seconds. The gates pass everything."""
    from training.config import CycleConfig

    config = CycleConfig.model_validate(
        {
            "text": {"max_prompt_tokens": 32, "max_answer_tokens": 32},
            "reward": {"epochs": 2},
            "ppo": {
                "iterations": 2,
                "prompts_per_iteration": 4,
                "minibatch_size": 4,
                "epochs": 1,
                "checkpoint_every_iterations": 1,
                "evaluation_answers": 1,
                "best_of": 2,
                "origin_answers": 2,
                "sampling": {"top_k": 0, "top_p": 1.0, "max_new_tokens": 12},
                **ppo,
            },
            "gates": {"min_reward_accuracy": 0.0, "min_win_rate": 0.0, "max_kl_nats": 1000.0},
        }
    )
    path = folder / "training.json"
    config.save(path)
    return path
