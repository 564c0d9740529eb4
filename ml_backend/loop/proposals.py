"""Proposals for all of a project's open tasks, by the champion, stored in Label Studio before anyone opens a task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ml_backend.serving.predictions import AnswerPairModel
from ml_backend.serving.proposer import Proposer
from training.errors import ModelError

if TYPE_CHECKING:
    from ml_backend.label_studio import LabelStudio
    from ml_backend.registry import Registry, Version
    from ml_backend.settings import Settings

LOAD_TIMEOUT_S = 600.0
BATCH_TIMEOUT_S = 3600.0
STORE_AFTER_S = 60.0
STORE_AFTER_TASKS = 500
"""Storing reads the project's open tasks again, so it is done for many predictions at once; people who open a task
meanwhile are answered by the server."""

logger = logging.getLogger(__name__)


class BulkProposals:
    """Fills a project with the champion's predictions. Used from one thread at a time."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        open_label_studio: Callable[[], AbstractContextManager[LabelStudio]],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._open = open_label_studio
        self._proposer: Proposer | None = None

    def some(self, project_id: int) -> dict[str, Any]:
        """Propose for open tasks that have nothing from the champion yet, for about a minute, and store it.

        Returns:
            `version`, how many predictions were `stored`, and how many tasks are `left`.

        Raises:
            ModelError: the champion can't be loaded.
        """
        champion = self._registry.champion() or self._registry.ensure_base()
        with self._open() as label_studio:
            tasks = label_studio.tasks_to_propose(project_id, champion.name)
            if not tasks:
                label_studio.drop_stale_predictions(project_id, champion.name)
                return {"version": champion.name, "stored": 0, "left": 0}
            config = label_studio.project(project_id).label_config
            predictions = self._predict(champion, project_id, config, tasks)
            stored = label_studio.replace_predictions(project_id, predictions)
        logger.info("project %d: %d of %d proposals of %s", project_id, stored, len(tasks), champion.name)
        return {"version": champion.name, "stored": stored, "left": len(tasks) - len(predictions)}

    def release(self) -> None:
        """Let go of the model, whose memory training may need."""
        if self._proposer is not None:
            self._proposer.stop()
            self._proposer = None

    def _predict(
        self, champion: Version, project_id: int, label_config: str, tasks: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        model = AnswerPairModel(
            label_config,
            self._loaded(champion),
            _Nowhere(),
            model_name=self._settings.model_name,
            deadline_s=BATCH_TIMEOUT_S,
            project_id=project_id,
        )
        size = self._settings.propose_batch
        until = time.monotonic() + STORE_AFTER_S
        found: list[dict[str, Any]] = []
        for start in range(0, min(len(tasks), STORE_AFTER_TASKS), size):
            batch = tasks[start : start + size]
            answers = model.predict(batch)
            found += [
                {**answer, "task": task["id"]}
                for task, answer in zip(batch, answers, strict=True)
                if answer["model_version"] == champion.name
            ]
            if time.monotonic() > until:
                break
        return found

    def _loaded(self, champion: Version) -> Proposer:
        """A proposer that answers with this version; a champion of before is let go."""
        if self._proposer is None or self._proposer.version != champion.name:
            self.release()
            self._proposer = Proposer(self._registry, self._settings)
            self._proposer.start()
            if not self._proposer.wait_until_loaded(LOAD_TIMEOUT_S):
                fault = self._proposer.fault or "it took too long"
                self.release()
                raise ModelError(f"{champion.name} can't be loaded: {fault}")
        return self._proposer


class _Nowhere:
    """A job queue for a model that is a job itself: what it can't do now it finds again the next time."""

    def judgement_arrived(self, project_id: int) -> None:
        """Nobody judges here."""

    def start_training(self, project_id: int) -> dict[str, Any]:
        """Nobody trains here."""
        return {"status": "ignored", "project": project_id}

    def propose(self, project_id: int) -> None:
        """It is being done."""

    def status(self) -> dict[str, Any]:
        """Nothing waits here."""
        return {}
