"""Adds tasks of later rounds, tries and repeated pairs, and finds proposals that no longer fit the label config."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio import LabelStudio
from ml_backend.labels import LabelConfig, fits, parse_label_config, read_moment
from ml_backend.lines import Connected
from ml_backend.rounds.places import made_task, next_place, place_in, round_of
from ml_backend.rounds.repeats import repeat_key, repeat_of
from ml_backend.rounds.state import Remembered, read_remembered, remember
from ml_backend.rounds.topping_up import runs_short, wanted
from ml_backend.settings import Settings

OVERLAP = timedelta(minutes=2)
"""How far before the last look the next one begins: a slow request may have stored an earlier time since."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    """A task to add: its key, its turn (a round; 0 if it waits for nothing), and what is imported."""

    key: str
    turn: int
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How many rounds and tries there are to be, and which share of judged pairs is shown once more."""

    rounds: int
    tries: int
    repeats: float


class Rounds:
    """The later rounds and tries of the projects, and the pairs that are shown once more. One process at a time may
    renew, the worker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home() / "rounds"

    def due(self, label_studio: LabelStudio, project: Connected, champion: str) -> bool:
        """Whether anything has happened that calls for a closer look. Costs one small request or two.

        Raises:
            LabelConfigError: the project's label config can't be used.
        """
        config = parse_label_config(project.label_config)
        before = self._remembered(project)
        if before.asks != _asks(config):
            return True
        if runs_short(label_studio, project, wanted(self._settings, project, config)):
            return True
        return self._applies(project, config) and before.mark != self._mark(label_studio, project, champion)

    def renew(self, label_studio: LabelStudio, project: Connected, champion: str) -> int:
        """Add a task for each prompt that is due for its next round or try, and for each pair that is to be shown once
        more. Returns how many were added.

        Later rounds and repeated pairs wait until fewer than half of the look-ahead's tasks are open. No place gets two
        tasks: those that were made stand in Label Studio, also if this process died right after making them.

        Raises:
            LabelConfigError: the project's label config can't be used.
        """
        config = parse_label_config(project.label_config)
        if not self._applies(project, config):
            return 0
        before = self._remembered(project)
        mark = self._mark(label_studio, project, champion)
        if mark == before.mark:
            return 0
        room = self._room(label_studio, project)
        asked = _Wanted(1, self._tries(project), 0.0)
        if room:
            asked = replace(asked, rounds=self._rounds(project), repeats=self._repeats(project))
        since = None if asked.rounds > 1 or asked.repeats else _earlier(before.judged_to)
        due: dict[str, _Due] = {}
        newest = read_moment(before.judged_to)
        for task in label_studio.judged_tasks(project.project_id, since):
            newest = max(filter(None, (newest, read_moment(task.get("updated_at")))), default=None)
            for each in _after(task, config, champion, asked):
                due.setdefault(each.key, each)
        after = replace(before, judged_to=_written(newest), mark=mark)
        if due:
            known = self._listed(label_studio, project, before)
            self._remember(project, known)
            after = replace(after, made=known.made, listed_to=known.listed_to)
            due = {key: found for key, found in due.items() if key not in set(known.made)}
        if not due:
            self._remember(project, after)
            return 0
        chosen = _first(due.values(), room)
        if not self._add(label_studio, project, [each.row for each in chosen]):
            return 0
        made = [*after.made, *(each.key for each in chosen)]
        self._remember(project, replace(after, made=made, mark=[]))  # the counts have changed: look once more
        logger.info("project %d: %d prompts are asked about again", project.project_id, len(chosen))
        return len(chosen)

    def misfits(
        self, label_studio: LabelStudio, project: Connected, config: LabelConfig, champion: str
    ) -> list[dict[str, Any]]:
        """Open tasks whose proposals of the champion don't fit the label config as it is now, each with these
        `predictions`. None are looked for while the config asks what it asked at the last `fitted`.
        """
        before = self._remembered(project).asks
        asks = _asks(config)
        if before == asks:
            return []
        others = bool(before) and before[:2] != asks[:2]  # another prompt, or another kind of question
        tasks = label_studio.proposed_tasks(project.project_id, champion)
        return [
            task
            for task in tasks
            if others or any(_is_off(config, item["result"], was_checked=bool(before)) for item in task["predictions"])
        ]

    def fitted(self, project: Connected, config: LabelConfig) -> None:
        """Note that all proposals of the look-ahead fit the label config."""
        before = self._remembered(project)
        if before.asks != _asks(config):
            self._remember(project, replace(before, asks=_asks(config)))

    def _applies(self, project: Connected, config: LabelConfig) -> bool:
        several = self._rounds(project) > 1 or self._tries(project) > 1
        return config.kind == "live" and (several or self._repeats(project) > 0)

    def _rounds(self, project: Connected) -> int:
        return project.settings.rounds or self._settings.rounds

    def _tries(self, project: Connected) -> int:
        return project.settings.tries or self._settings.tries

    def _repeats(self, project: Connected) -> float:
        own = project.settings.repeats
        return self._settings.repeats if own is None else own

    def _room(self, label_studio: LabelStudio, project: Connected) -> int:
        """How many tasks of later rounds and repeated pairs may be added now: none while many tasks are open, or if
        there is one round and nothing is repeated.
        """
        if self._rounds(project) < 2 and not self._repeats(project):
            return 0
        ahead = self._settings.propose_ahead
        half = (ahead + 1) // 2
        opened = label_studio.open_tasks_up_to(project.project_id, half)
        return ahead - opened if opened < half else 0

    def _mark(self, label_studio: LabelStudio, project: Connected, champion: str) -> list[Any]:
        counts = label_studio.project(project.project_id)
        settings = [self._rounds(project), self._tries(project), project.label_config]
        repeats = self._repeats(project)
        settings += [repeats] if repeats else []
        return [champion, counts.tasks, counts.judgements, counts.skips, *settings]

    def _listed(self, label_studio: LabelStudio, project: Connected, before: Remembered) -> Remembered:
        """With the keys of all tasks that were made here, also by a process that died before it could note them."""
        made, last = dict.fromkeys(before.made), before.listed_to
        for task in label_studio.tasks_after(project.project_id, last):
            place, again = place_in(task.get("meta")), repeat_key(task.get("meta"))
            if place is not None or again is not None:
                made[place.key if place else str(again)] = None
            last = max(last, int(task["id"]))
        return replace(before, made=list(made), listed_to=last)

    def _add(self, label_studio: LabelStudio, project: Connected, rows: list[dict[str, Any]]) -> bool:
        """Add tasks. Whether it is certain that they were added: if not, the next look finds out, once a request that
        was cut off has ended one way or the other.
        """
        try:
            label_studio.import_tasks(project.project_id, rows)
        except LabelStudioError as error:
            if error.status is not None and error.status < 500:
                raise
            logger.warning("project %d: later rounds are tried again in a while: %s", project.project_id, error)
            return False
        return True

    def _path(self, project: Connected) -> Path:
        return self._folder / f"{project.project_id}.json"

    def _remembered(self, project: Connected) -> Remembered:
        return read_remembered(self._path(project), self._settings.label_studio_url)

    def _remember(self, project: Connected, found: Remembered) -> None:
        remember(self._path(project), found)


def _asks(config: LabelConfig) -> list[Any]:
    """What proposals depend on: the kind of question and the prompt, then the tags that they fill."""
    prompts = [[field.key, field.form, field.who, field.what] for field in config.prompts]
    return [config.kind, prompts, [field.name for field in config.answers], config.control, config.target]


def _is_off(config: LabelConfig, result: Any, *, was_checked: bool) -> bool:
    """Whether a stored prediction doesn't fit; an empty one may have been so for want of another config."""
    return not fits(config, result) if result else was_checked


def _earlier(moment: str | None) -> str | None:
    found = read_moment(moment)
    return _written(found - OVERLAP) if found else None


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _after(task: dict[str, Any], config: LabelConfig, champion: str, wanted: _Wanted) -> Iterator[_Due]:
    """What is due after a judged task: nothing after one that showed a pair once more."""
    if repeat_key(task.get("meta")) is not None:
        return
    place = next_place(task, config, champion=champion, rounds=wanted.rounds, tries=wanted.tries)
    if place is not None:
        yield _Due(place.key, place.round if place.attempt == 1 else 0, made_task(task, config, place))
    again = repeat_of(task, config, wanted.repeats) if wanted.repeats else None
    if again is not None:
        yield _Due(again[0], round_of(task) + 1, again[1])


def _first(due: Iterable[_Due], room: int) -> list[_Due]:
    """All that waits for nothing, and as much else as there is room for, earlier rounds first."""
    found = list(due)
    waiting = sorted((each for each in found if each.turn), key=lambda each: each.turn)
    return [*(each for each in found if not each.turn), *waiting[:room]]
