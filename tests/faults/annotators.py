"""Annotators in a real Label Studio: they judge, change their minds, delete, and keep opening tasks."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from faults.ledger import Ledger
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction
from training.data.split import split_of
from training.data.types import Split

LABEL_CONFIG = (Path(__file__).parents[2] / "label_config.xml").read_text(encoding="utf-8")
_CONFIG = parse_label_config(LABEL_CONFIG)
_WORDS = ["Put", "it", "into", "hot", "boiling", "water", "for", "eight", "minutes", ".", "Leaves", "in"]
SPLITS = {Split.TRAIN: 18, Split.SELECTION: 7, Split.TEST: 7}
"""How many prompts of each split a project has: a cycle needs some of each."""
TIMEOUT_S = 60.0


@dataclass(slots=True)
class Judged:
    """A project and its judgements. `preferred` is the better answer by annotation; `attempts` is how many training
    cycles it has a reason for.
    """

    id: int
    open_tasks: list[int] = field(default_factory=list)
    preferred: dict[int, str] = field(default_factory=dict)
    answers: dict[int, tuple[str, str]] = field(default_factory=dict)
    attempts: int = 1


class Annotators:
    """Sends Label Studio the requests of a browser. Failed requests are noted in the ledger."""

    def __init__(self, url: str, token: str, ledger: Ledger) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=TIMEOUT_S)
        self._ledger = ledger

    def fill(self, project: Judged, *, judged: int) -> None:
        """Import tasks, the first `judged` of them with a judgement, as from another tool."""
        rows: list[dict[str, Any]] = [{"data": {"prompt": prompt}} for prompt in prompts()]
        pairs = [_pair(project.id * 1000 + number) for number in range(judged)]
        for row, (better, worse) in zip(rows, pairs, strict=False):
            row["annotations"] = [{"result": _result(better, worse, better)}]
        self._ask("POST", f"/api/projects/{project.id}/import", rows)
        for task in self._ask("GET", f"/api/tasks?project={project.id}&fields=all&page_size=100")["tasks"]:
            for annotation in task["annotations"]:
                self._remember(project, annotation)
            if not task["annotations"]:
                project.open_tasks.append(task["id"])
        # under load, Label Studio on SQLite may drop annotations that it reports as imported ("database is locked")
        self.judge(project, judged - len(project.preferred))

    def judge(self, project: Judged, number: int) -> list[int]:
        """Judge this many open tasks. Returns the annotations' ids."""
        made = []
        for _ in range(number):
            task = project.open_tasks.pop(0)
            better, worse = _pair(project.id * 1000 + 500 + task)
            body = {"result": _result(better, worse, better), "lead_time": 4.0}
            annotation = self._ask("POST", f"/api/tasks/{task}/annotations/", body)
            self._remember(project, annotation)
            made.append(annotation["id"])
        return made

    def change(self, project: Judged, annotation: int) -> None:
        """Change a judgement: the other answer is the better one."""
        better, worse = project.answers[annotation]
        changed = self._ask("PATCH", f"/api/annotations/{annotation}/", {"result": _result(worse, better, worse)})
        self._remember(project, changed)

    def delete(self, project: Judged, annotation: int) -> None:
        """Delete a judgement."""
        self._ask("DELETE", f"/api/annotations/{annotation}/")
        del project.preferred[annotation]

    def switch(self, project: Judged, **settings: Any) -> None:
        """Change the project's settings."""
        self._ask("PATCH", f"/api/projects/{project.id}/", settings)

    def start_training(self, project: Judged) -> None:
        """Press Start Training."""
        for backend in self._ask("GET", f"/api/ml?project={project.id}"):
            self._ask("POST", f"/api/ml/{backend['id']}/train", {})

    def disconnect(self, project: Judged) -> int:
        """Remove the ML backend, if there is one. Label Studio leaves its webhook behind. Returns how many there were.

        Label Studio stores a backend's state whenever it has asked it something, which brings back one that was removed
        meanwhile. So nobody may open tasks now.
        """
        backends = self._ask("GET", f"/api/ml?project={project.id}")
        for backend in backends:
            self._ask("DELETE", f"/api/ml/{backend['id']}")
        return len(backends)

    def open_next(self, project: Judged) -> None:
        """Request the next task, for which Label Studio asks the backend."""
        self._ask("GET", f"/api/projects/{project.id}/next")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            self._ledger.asked(f"{method} {path}: {type(error).__name__}")
            raise
        allowed = answer.is_success or (path.endswith("/next") and answer.status_code == 404)  # no task is left
        self._ledger.asked(None if allowed else f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        if not allowed:
            answer.raise_for_status()
        return answer.json() if answer.content else None

    def _remember(self, project: Judged, annotation: Mapping[str, Any]) -> None:
        texts = {item["from_name"]: item["value"] for item in annotation["result"]}
        first, second = (texts[answer.name]["text"][0] for answer in _CONFIG.answers)
        chose_first = texts[_CONFIG.control]["choices"] == ["answer1"]
        project.preferred[annotation["id"]] = first if chose_first else second
        project.answers[annotation["id"]] = (first, second) if chose_first else (second, first)


class Visitor(threading.Thread):
    """Someone who opens a task of the current project every now and then."""

    def __init__(self, annotators: Annotators, pause_s: float) -> None:
        super().__init__(name="visitor", daemon=True)
        self._annotators = annotators
        self._pause_s = pause_s
        self._told = threading.Event()
        self._visiting = threading.Lock()
        self.project: Judged | None = None

    def run(self) -> None:
        """Open tasks until told to stop."""
        while not self._told.wait(self._pause_s):
            with self._visiting:
                if self.project is not None:
                    try:
                        self._annotators.open_next(self.project)
                    except httpx.HTTPError:
                        continue  # it's in the ledger

    def visit(self, project: Judged | None) -> None:
        """Switch to another project, once the last request is over."""
        with self._visiting:
            self.project = project

    def end(self) -> None:
        """Stop opening tasks."""
        self._told.set()
        self.join()


def prompts() -> list[str]:
    """Questions of all three splits, ordered so that any stretch has some of each."""
    left, found = dict(SPLITS), []
    number = 0
    while any(left.values()):
        prompt = f"What is tea number {number}?"
        number += 1
        if left[split_of(prompt)]:
            left[split_of(prompt)] -= 1
            found.append(prompt)
    return found


def _pair(seed: int) -> tuple[str, str]:
    """A better and a worse answer: shorter is better."""
    dice = random.Random(seed)
    short, long = sorted(dice.sample(range(2, 12), 2))
    return " ".join(dice.choices(_WORDS, k=short)), " ".join(dice.choices(_WORDS, k=long))


def _result(better: str, worse: str, preferred: str) -> list[dict[str, Any]]:
    """What the labeling page stores: both answers as shown, in random order, and the verdict."""
    first, second = sorted((better, worse))
    verdict = {
        "type": "choices",
        "from_name": _CONFIG.control,
        "to_name": _CONFIG.target,
        "value": {"choices": ["answer1" if preferred == first else "answer2"]},
    }
    return [*live_prediction(_CONFIG, first, second, "rankloop-v1")["result"], verdict]
