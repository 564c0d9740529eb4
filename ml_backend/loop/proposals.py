"""A line's champion's proposals for a project's next open tasks, stored before anyone opens them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ml_backend.contest import shown_name
from ml_backend.label_studio import LabelStudio
from ml_backend.labels import LabelConfig, parse_label_config
from ml_backend.lines import Connected, Connections, not_connected
from ml_backend.registry import Registry, Version
from ml_backend.rounds import Rounds, runs_short, top_up, wanted
from ml_backend.serving import Answerer, LoadedVersion, Match, load_version, predictions_of, with_scores
from ml_backend.settings import Settings
from training.errors import RankloopError

STORE_AFTER_S = 60.0
STORE_AFTER_TASKS = 500
"""Storing reads the project's open tasks again, so predictions are stored in bulk; the server answers for tasks that
are opened in the meantime."""

logger = logging.getLogger(__name__)


class BulkProposals:
    """Fills a project with the predictions of its line's champion. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        open_label_studio: Callable[[], AbstractContextManager[LabelStudio]],
        connections: Connections | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._open = open_label_studio
        self._connections = connections or Connections(settings, registry, open_label_studio)
        self._rounds = Rounds(settings)
        self._loaded: LoadedVersion | None = None
        self._loaded_challenger: LoadedVersion | None = None

    def some(self, project_id: int) -> dict[str, Any]:
        """Propose for about a minute for open tasks without the champion's answers, and store the proposals.

        Before that, tasks of later rounds and tasks with fresh answers are added, and proposals mended that a changed
        label config doesn't fit.

        Returns:
            `version`, how many predictions were `stored`, and how many tasks are `left`.

        Raises:
            ModelError: the champion can't be loaded.
        """
        project = self._connections.of(project_id)
        if project is None:
            logger.warning("no proposals: %s", not_connected(project_id))
            return {"version": None, "stored": 0, "left": 0}
        champion = self._registry.current(project.line)
        challenger = self._usable_challenger(champion)
        name = shown_name(champion.name, challenger.name if challenger else None)
        with self._open() as label_studio:
            config = parse_label_config(project.label_config)
            self._rounds.renew(label_studio, project, champion.name)
            self._mend(label_studio, project, config, champion, challenger)
            self._top_up(label_studio, project, config, champion)
            tasks = label_studio.tasks_to_propose(project_id, name)
            if not tasks:
                return {"version": name, "stored": 0, "left": 0}
            version = self._answerer(champion, challenger).told(project.settings)
            predictions = self._predict(version, config, tasks)
            stored = label_studio.replace_predictions(project_id, predictions)
        logger.info("project %d: %d of %d proposals of %s", project_id, stored, len(tasks), name)
        return {"version": name, "stored": stored, "left": len(tasks) - len(predictions)}

    def release(self) -> None:
        """Free the model's memory, which training may need."""
        self._loaded = self._loaded_challenger = None

    def _mend(
        self,
        label_studio: LabelStudio,
        project: Connected,
        config: LabelConfig,
        champion: Version,
        challenger: Version | None,
    ) -> None:
        """Renew proposals that don't fit the label config any more, each in its place: a page that shows one can still
        submit its judgement.
        """
        name = shown_name(champion.name, challenger.name if challenger else None)
        misfits = self._rounds.misfits(label_studio, project, config, name)
        if misfits:
            version = self._answerer(champion, challenger).told(project.settings)
            size, changed = self._settings.propose_batch, 0
            for start in range(0, len(misfits), size):
                batch = misfits[start : start + size]
                for task, answer in zip(batch, predictions_of(batch, config, version), strict=True):
                    for stored in task["predictions"] if answer else []:
                        if answer and stored["result"] != answer["result"]:
                            label_studio.change_prediction(stored["id"], answer["result"], answer.get("score"))
                            changed += 1
            logger.info("project %d: %d proposals fit the changed label config again", project.project_id, changed)
        self._rounds.fitted(project, config)

    def _top_up(self, label_studio: LabelStudio, project: Connected, config: LabelConfig, champion: Version) -> None:
        number = wanted(self._settings, project, config)
        if runs_short(label_studio, project, number):
            top_up(label_studio, project, config, number, self._version(champion).told(project.settings))

    def _predict(self, version: Answerer, config: LabelConfig, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        size = self._settings.propose_batch
        until = time.monotonic() + STORE_AFTER_S
        found: list[dict[str, Any]] = []
        for start in range(0, min(len(tasks), STORE_AFTER_TASKS), size):
            batch = tasks[start : start + size]
            answers = with_scores(predictions_of(batch, config, version), batch, config, version)
            found += [{**answer, "task": task["id"]} for task, answer in zip(batch, answers, strict=True) if answer]
            if time.monotonic() > until:
                break
        return found

    def _version(self, champion: Version) -> LoadedVersion:
        """The loaded champion; a previous one is freed first."""
        if self._loaded is None or self._loaded.name != champion.name:
            self.release()
            self._loaded = load_version(champion.name, self._registry.fetch(champion), self._settings)
        return self._loaded

    def _answerer(self, champion: Version, challenger: Version | None) -> Answerer:
        loaded = self._version(champion)
        other = self._loaded_challenger
        return loaded if challenger is None or other is None else Match(loaded, other, self._settings.contest_share)

    def _usable_challenger(self, champion: Version) -> Version | None:
        """The line's challenger, loaded; None if there is none, or it can't be loaded."""
        found = self._registry.challenger(champion.line)
        known = self._loaded_challenger
        if found is None or (known is not None and known.name != found.name):
            self._loaded_challenger = None
        if found is None or self._loaded_challenger is not None:
            return found
        try:
            self._version(champion)  # first, as it frees another line's versions
            self._loaded_challenger = load_version(found.name, self._registry.fetch(found), self._settings)
        except RankloopError as error:
            logger.warning("%s can't be loaded, so %s answers alone: %s", found.name, champion.name, error)
            return None
        return found
