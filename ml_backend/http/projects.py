"""What the server knows of the projects that call it: line, settings, and whether they are connected at all.

Label Studio has the truth. /setup brings a project's settings with every page; in between, and for projects that never
call, the list of connected projects is fetched in the background, so that no request waits for Label Studio.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml_backend.lines import Connected, ProjectSettings, line_of, read_extra_params
from training.errors import RankloopError

REFRESH_S = 20.0
"""How old the list of connected projects may be before an event has it fetched again."""
TRUSTED_S = 60.0
"""How old the list may be to turn an event away. The worker looks for itself, so letting one pass does no harm."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownProject:
    """A project's line, settings, and when it was created (seconds since 1970), if it was said."""

    line: str
    settings: ProjectSettings
    created_at: float | None = None


class KnownProjects:
    """Remembers projects. Thread-safe, and never waits for Label Studio.

    Args:
        taken_over_at: see `line_of`.
        fetch: lists the connected projects; None if Label Studio can't be asked.
    """

    def __init__(
        self, taken_over_at: Callable[[], float], fetch: Callable[[], Sequence[Connected]] | None = None
    ) -> None:
        self._taken_over_at = taken_over_at
        self._fetch = fetch
        self._lock = threading.Lock()
        self._known: dict[int, KnownProject] = {}
        self._called: dict[int, float] = {}  # when each project last called /setup, on the monotonic clock
        self._connected: frozenset[int] = frozenset()
        self._fetched_at = float("-inf")
        self._fetching = False

    def setup(self, project_id: int | None, created_at: float | None, extra_params: object) -> KnownProject:
        """Remember what a /setup says. Without `extra_params` (a PATCH of the backend sends none) what is known stays.

        Raises:
            DataError: the `extra_params` can't be used; nothing is changed.
        """
        settings = read_extra_params(extra_params)
        if not project_id:
            return self.of(None)
        before = self._known.get(project_id)
        if extra_params is None and before is not None:
            known = before
        else:
            line = line_of(project_id, created_at, settings.line, self._taken_over_at())
            known = KnownProject(line, settings, created_at)
        with self._lock:
            self._known[project_id] = known
            self._called[project_id] = time.monotonic()
        return known

    def of(self, project_id: int | None, created_at: float | None = None) -> KnownProject:
        """A project's line and settings, as far as they are known."""
        known = self._known.get(project_id) if project_id else None
        if known is not None:
            return known
        return KnownProject(line_of(project_id, created_at, None, self._taken_over_at()), ProjectSettings(), created_at)

    def line_of(self, project_id: int) -> str | None:
        """A project's line, None if the project isn't known."""
        known = self._known.get(project_id)
        return known.line if known else None

    def on(self, line: str) -> list[int]:
        """The known projects of a line."""
        with self._lock:
            return sorted(number for number, known in self._known.items() if known.line == line)

    def is_connected(self, project_id: int) -> bool | None:
        """Whether a project is connected to this backend; None if that isn't known well enough."""
        now = time.monotonic()
        with self._lock:
            age_s = now - self._fetched_at
            if age_s > REFRESH_S and not self._fetching and self._fetch is not None:
                self._fetching = True
                threading.Thread(target=self._refresh, name="rankloop-projects", daemon=True).start()
            if project_id in self._connected or now - self._called.get(project_id, float("-inf")) < TRUSTED_S:
                return True
            return False if age_s < TRUSTED_S else None

    def _refresh(self) -> None:
        try:
            found = list(self._fetch()) if self._fetch is not None else []
        except RankloopError as error:
            logger.warning("the connected projects can't be listed: %s", error)
            found = None
        except Exception:
            logger.exception("the connected projects can't be listed")
            found = None
        with self._lock:
            self._fetching = False
            if found is not None:
                self._fetched_at = time.monotonic()
                self._connected = frozenset(project.project_id for project in found)
                for project in found:
                    before = self._known.get(project.project_id)
                    created_at = before.created_at if before else None
                    self._known[project.project_id] = KnownProject(project.line, project.settings, created_at)
