"""Which projects are connected to this backend, on which line, with which settings. Label Studio is the truth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ml_backend.label_studio import Connection, LabelStudio, connection_of, connections
from ml_backend.lines.project_settings import ProjectSettings, read_extra_params
from ml_backend.registry import DEFAULT_LINE, Registry
from ml_backend.settings import Settings
from training.errors import DataError

REMEMBERED_S = 30.0
"""How long the list of connected projects is used before Label Studio is asked again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connected:
    """A project that is connected to this backend. `label_config` is as it stands in Label Studio now."""

    project_id: int
    line: str
    settings: ProjectSettings
    label_config: str


def own_line(project_id: int) -> str:
    """The line that a project has for itself. It keeps this name when the project is renamed."""
    return f"project-{project_id}"


def line_of(project_id: int | None, created_at: float | None, named: str | None, taken_over_at: float) -> str:
    """A project's line.

    Args:
        project_id: None where a request names no project.
        created_at: when the project was created, in seconds since 1970, if known.
        named: the line that the project was given, if any.
        taken_over_at: when the data folder was taken over from a release without lines; 0 if it never was. Projects
            from before then were all served by what is now the line `default`, and stay on it.
    """
    if named:
        return named
    if not project_id or (created_at is not None and created_at < taken_over_at):
        return DEFAULT_LINE
    return own_line(project_id)


class Connections:
    """Asks Label Studio who is connected. Thread-safe.

    Args:
        settings: the configuration.
        registry: knows when the data folder was taken over.
        open_label_studio: opens a connection to Label Studio.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        open_label_studio: Callable[[], AbstractContextManager[LabelStudio]],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._open = open_label_studio
        self._lock = threading.Lock()
        self._known: list[Connected] = []
        self._known_at = float("-inf")

    def all(self, *, fresh: bool = True) -> list[Connected]:
        """Every connected project whose settings can be read, by id.

        Args:
            fresh: ask Label Studio even if it was asked within the last half minute.
        """
        with self._lock:
            if not fresh and time.monotonic() - self._known_at < REMEMBERED_S:
                return self._known
        with self._open() as label_studio:
            found = connections(label_studio, self._settings.public_url(), self._settings.model_name)
        known = []
        for connection in found:
            try:
                known.append(self._read(connection))
            except DataError as error:
                logger.warning("project %d is left out: %s", connection.project.id, error)
        with self._lock:
            self._known, self._known_at = known, time.monotonic()
        return known

    def of(self, project_id: int) -> Connected | None:
        """The project as it is connected now; None if it isn't connected, or doesn't exist.

        Raises:
            DataError: its settings can't be used.
        """
        with self._open() as label_studio:
            found = connection_of(label_studio, project_id, self._settings.public_url())
        if found is None:
            with self._lock:
                self._known_at = float("-inf")  # it may be on the list that is remembered
            return None
        return self._read(found)

    def on_line_of(self, project: Connected) -> list[Connected]:
        """All connected projects on the line of one that is connected, by id; itself as it was given."""
        others = [other for other in self.all(fresh=False) if other.line == project.line]
        mates = {other.project_id: other for other in others} | {project.project_id: project}
        return [mates[number] for number in sorted(mates)]

    def _read(self, connection: Connection) -> Connected:
        project = connection.project
        settings = read_extra_params(connection.backend.extra_params)
        line = line_of(project.id, project.created_at, settings.line, self._registry.taken_over_at())
        return Connected(project.id, line, settings, project.label_config)


def not_connected(project_id: int) -> str:
    """Why an event of a project that isn't connected starts nothing."""
    return (
        f"Project {project_id} isn't connected to this backend, so nothing starts: a webhook was left behind, or the "
        f"backend was removed. Connect it with `rankloop init-project --project {project_id}`, or delete the webhook "
        "in the project's settings."
    )
