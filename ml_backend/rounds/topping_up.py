"""Fresh answers for projects whose tasks hold the answers: a number of such tasks always waits to be judged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ml_backend.label_studio import LabelStudio
from ml_backend.labels import LabelConfig, fresh_note
from ml_backend.lines import Connected
from ml_backend.rounds.places import OURS, prompt_digest
from ml_backend.settings import Settings
from training.data import Prompt

TRIES = 3
"""How often answers to a prompt are drawn until there are enough different ones."""
ANSWERS = range(3, 7)
"""How many answers a ranker's task may have; one with fewer or more gets the nearest of these."""

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class Pair(Protocol):
    """Two answers to one prompt."""

    @property
    def answer1(self) -> str:
        """The first."""

    @property
    def answer2(self) -> str:
        """The second."""


class Writer(Protocol):
    """A version that answers."""

    @property
    def name(self) -> str:
        """The version's name."""

    def propose(self, questions: Sequence[tuple[str, Prompt]]) -> Sequence[Pair]:
        """Two answers to each prompt; the key seeds the sampling."""


@dataclass(slots=True)
class _Asked:
    """A prompt of the project: a task with it, how many there are, and the answers that they hold."""

    task: Mapping[str, Any]
    prompt: Prompt
    times: int = 0
    answers: set[str] = field(default_factory=set)


def wanted(settings: Settings, project: Connected, config: LabelConfig) -> int:
    """How many tasks with answers are always to wait in a project; 0 where none are added."""
    fits = config.kind != "live" and config.prompts and all(shown.form == "text" for shown in config.answers)
    number = project.settings.top_up if project.settings.top_up is not None else settings.top_up
    return number if fits else 0


def runs_short(label_studio: LabelStudio, project: Connected, number: int) -> bool:
    """Whether fewer than that many tasks wait. Costs one small request, and none if the number is 0."""
    return bool(number) and label_studio.open_tasks_up_to(project.project_id, number) < number


def top_up(label_studio: LabelStudio, project: Connected, config: LabelConfig, number: int, writer: Writer) -> int:
    """Add tasks with fresh answers until twice the number waits, if fewer than the number do. Returns how many.

    The project's own prompts are asked again, those with the fewest tasks first.
    """
    waiting = label_studio.open_tasks_up_to(project.project_id, number)
    if waiting >= number:
        return 0
    tasks = label_studio.tasks(project.project_id)
    rows = fresh_rows(tasks, config, 2 * number - waiting, writer)
    if rows:
        label_studio.import_tasks(project.project_id, rows)
        logger.info("project %d: %d tasks with fresh answers", project.project_id, len(rows))
    return len(rows)


def fresh_rows(tasks: Iterable[Mapping[str, Any]], config: LabelConfig, number: int, writer: Writer) -> list[Row]:
    """As many tasks with fresh answers to the prompts of `tasks`, fewer where a version knows no other answers.

    Each has the data of a task with that prompt, but for the answers, and says in its `meta` who wrote these.
    """
    prompts = sorted(_prompts(tasks, config).values(), key=lambda asked: asked.times)
    rows: list[Row] = []
    exhausted: set[int] = set()
    while len(rows) < number and len(exhausted) < len(prompts):
        some = [place for place in range(len(prompts)) if place not in exhausted][: number - len(rows)]
        drawn = _drawn([prompts[place] for place in some], config, writer)
        for place, answers in zip(some, drawn, strict=True):
            if answers is None:
                exhausted.add(place)
            else:
                rows.append(_row(prompts[place], config, answers, writer.name))
    return rows


def _prompts(tasks: Iterable[Mapping[str, Any]], config: LabelConfig) -> dict[str, _Asked]:
    """The project's prompts by fingerprint, in the order of their first tasks."""
    found: dict[str, _Asked] = {}
    for task in tasks:
        data = task.get("data")
        prompt = config.prompt_of(data)
        if prompt:
            asked = found.setdefault(prompt_digest(prompt), _Asked(task, prompt))
            asked.times += 1
            asked.answers |= set(map(_plain, config.answers_of(data) or [item.text for item in config.items_of(data)]))
    return found


def _drawn(some: Sequence[_Asked], config: LabelConfig, writer: Writer) -> list[list[str] | None]:
    """New answers to each prompt, all different, as many as its task shows; None where there aren't enough."""
    sizes = [_size(asked, config) for asked in some]
    found: list[list[str]] = [[] for _ in some]
    for attempt in range(TRIES * max(sizes, default=0)):
        lacking = [place for place, answers in enumerate(found) if len(answers) < sizes[place]]
        if not lacking or attempt >= TRIES * max((sizes[place] + 1) // 2 for place in lacking):
            break
        pairs = writer.propose([(_key(some[place], attempt), some[place].prompt) for place in lacking])
        for place, pair in zip(lacking, pairs, strict=True):
            for answer in (pair.answer1, pair.answer2):
                if len(found[place]) < sizes[place] and answer.strip() and _plain(answer) not in some[place].answers:
                    some[place].answers.add(_plain(answer))
                    found[place].append(answer)
    for asked in some:
        asked.times += 1
    return [answers if len(answers) == size else None for answers, size in zip(found, sizes, strict=True)]


def _row(asked: _Asked, config: LabelConfig, answers: Sequence[str], version: str) -> Row:
    data = dict(asked.task["data"])
    keys = [str(shown.key) for shown in config.answers]
    if config.kind == "ranker":
        data[keys[0]] = [
            {"id": f"answer-{place}", "title": f"Answer {place}", "body": answer, "model_version": version}
            for place, answer in enumerate(answers, start=1)
        ]
        return {"data": data, "meta": {OURS: {"fresh": {"version": version}}}}
    data |= zip(keys, answers, strict=True)
    return {"data": data, "meta": {OURS: {"fresh": fresh_note(version, *answers)}}}


def _size(asked: _Asked, config: LabelConfig) -> int:
    if config.kind != "ranker":
        return 2
    return min(max(len(config.items_of(asked.task.get("data"))), ANSWERS[0]), ANSWERS[-1])


def _key(asked: _Asked, attempt: int) -> str:
    return f"fresh {prompt_digest(asked.prompt)} {asked.times} {attempt}"


def _plain(answer: str) -> str:
    return " ".join(answer.split())
