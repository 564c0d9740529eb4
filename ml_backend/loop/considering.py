"""Whether a line should train now: its projects' new judgements, its last cycles, and what it waits for."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from ml_backend.contest import shown_name
from ml_backend.errors import LabelConfigError, LabelStudioError
from ml_backend.label_studio import LabelStudio
from ml_backend.labels import parse_label_config
from ml_backend.lines import Connected, Connections, Decision, Past, ProjectSettings, decide, not_connected
from ml_backend.registry import Attempt, Registry
from ml_backend.rounds import Rounds
from ml_backend.settings import Settings

logger = logging.getLogger(__name__)

OpenLabelStudio = Callable[[], AbstractContextManager[LabelStudio]]
Look = dict[str, Any]
"""What a look at a line found, as plain JSON: `line` (None for a project that isn't connected), `project_id` (one of
its projects), `projects` (id and number of new judgements of each), `new` and `needed` judgements, `seen` (the newest
judgement of each project), and of the decision `start`, `why` and `until`."""


class Considering:
    """Looks at lines.

    Args:
        settings: the configuration.
        registry: knows the lines' earlier cycles.
        connections: knows which projects are connected.
        open_label_studio: opens a connection to Label Studio.
        now: the time, in seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        connections: Connections,
        open_label_studio: OpenLabelStudio,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._connections = connections
        self._open = open_label_studio
        self._now = now
        self._rounds = Rounds(settings)

    def project(self, project_id: int) -> Look:
        """Look at the line of a project in which something happened."""
        project = self._connections.of(project_id)
        if project is None:
            nothing = {"projects": [], "new": 0, "needed": 0, "seen": {}, "start": False, "until": None}
            return {"line": None, "project_id": project_id, "why": not_connected(project_id), **nothing}
        return self.line(self._connections.on_line_of(project), project_id)

    def line(self, projects: Sequence[Connected], project_id: int | None = None) -> Look:
        """Look at a line with these connected projects; `project_id` is the one that something happened in."""
        line = projects[0].line
        counts, seen = self.judgements(line, projects)
        new = sum(counts.values())
        needed = min(p.settings.train_after or self._settings.train_after for p in projects)
        decision = self._decide(line, new, needed, projects)
        return {
            "line": line,
            "project_id": project_id or projects[0].project_id,
            "projects": [[number, count] for number, count in counts.items()],
            "new": new,
            "needed": needed,
            "seen": {str(number): moment for number, moment in seen.items()},
            "start": decision.start,
            "why": decision.why,
            "until": decision.until,
        }

    def lines(self) -> list[list[Any]]:
        """Each line with its connected projects."""
        lines: dict[str, list[int]] = {}
        for project in self._connections.all():
            lines.setdefault(project.line, []).append(project.project_id)
        return [[line, lines[line]] for line in sorted(lines)]

    def projects_of(self, line: str, project_id: int) -> list[int]:
        """The line's connected projects and this one; this one alone if Label Studio can't be reached."""
        try:
            found = [project.project_id for project in self._connections.all() if project.line == line]
        except LabelStudioError as error:
            logger.warning("only project %d gets new proposals for now: %s", project_id, error)
            found = []
        return sorted({project_id, *found})

    def reconcile(self, line: str, project_ids: list[int]) -> Look:
        """Look at a line unasked; `unproposed` are those of its projects whose next tasks lack the champion's answers.
        A line that can't be read doesn't hold up the others.
        """
        nothing: Look = {"line": line, "project_id": project_ids[0], "projects": [], "start": False, "unproposed": []}
        try:
            projects = self._still_connected(project_ids, fresh=False)
            look = self.line(projects) if projects else nothing
            if look["start"] and (now := self._still_connected(project_ids, fresh=True)) != projects:
                projects = now  # nothing starts for a project that was connected seconds ago
                look = self.line(projects) if projects else nothing
            champion = self._registry.current(line)
            challenger = self._registry.challenger(line)
            shown = shown_name(champion.name, challenger.name if challenger else None)
            with self._open() as label_studio:
                lacking = (
                    p for p in projects if _is_readable(p) and self._lacks(label_studio, p, champion.name, shown)
                )
                unproposed = [project.project_id for project in lacking]
        except LabelStudioError as error:
            logger.warning("line %s can't be checked: %s", line, error)
            return {**nothing, "why": str(error), "until": None}
        return {**look, "unproposed": unproposed}

    def _still_connected(self, project_ids: Sequence[int], *, fresh: bool) -> list[Connected]:
        return [project for project in self._connections.all(fresh=fresh) if project.project_id in project_ids]

    def judgements(self, line: str, projects: Sequence[Connected]) -> tuple[dict[int, int], dict[int, str]]:
        """For each project, how many judgements are newer than any that a cycle of the line saw, and the newest one."""
        before = self._registry.seen_on(line)
        counts, seen = {}, dict(before)
        with self._open() as label_studio:
            for project in projects:
                number = project.project_id
                counts[number], newest = label_studio.judgements_since(number, before.get(number))
                if newest:
                    seen[number] = newest
        return counts, seen

    def _lacks(self, label_studio: LabelStudio, project: Connected, champion: str, shown: str) -> bool:
        """Whether a project wants proposals: a new round is due, or its next tasks lack predictions of that name."""
        if self._rounds.due(label_studio, project, champion):
            return True
        return label_studio.runs_low(project.project_id, shown)

    def _decide(self, line: str, new: int, needed: int, projects: Sequence[Connected]) -> Decision:
        return decide(
            new=new,
            needed=needed,
            paused=self._registry.paused_since(line) is not None,
            past=[_past(attempt) for attempt in self._registry.attempts(line)],
            config_digest=config_digest(self._settings, projects),
            now=self._now(),
            first_pause_s=self._settings.retry_after_s,
            longest_pause_s=self._settings.retry_max_s,
        )


def config_digest(settings: Settings, projects: Sequence[Connected]) -> str:
    """A digest of everything that a cycle is configured by: the projects, their label configs, and all settings."""
    own = [[p.project_id, p.label_config, _of_training(p.settings)] for p in projects]
    given = [settings.cycle_config().model_dump(mode="json"), settings.device, own]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _is_readable(project: Connected) -> bool:
    """Whether a project's label config can be read: proposals would fail each time until somebody mends it."""
    try:
        parse_label_config(project.label_config)
    except LabelConfigError as error:
        logger.warning("project %d gets no proposals: %s", project.project_id, error)
        return False
    return True


def _of_training(settings: ProjectSettings) -> dict[str, Any]:
    """The settings of a project that training depends on; which tasks people are given says nothing about it."""
    return replace(settings, rounds=None, tries=None, promotion=None, top_up=None, repeats=None).as_extra_params()


def _past(attempt: Attempt) -> Past:
    tags = attempt.tags
    ended_at = attempt.ended_at or attempt.began_at
    return Past(attempt.status, tags.get("cause", ""), tags.get("config_digest") or None, ended_at)
