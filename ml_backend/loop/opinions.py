"""What a line's judgements say: read from Label Studio, computed, and stored with the registry for server and page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ml_backend.contest import Contest, meetings_in, rank_versions
from ml_backend.errors import RegistryError
from ml_backend.label_studio import LabelStudio
from ml_backend.labels import judgements_from_export, parse_label_config, read_moment
from ml_backend.lines import Connected, Connections, judge_contest, settle
from ml_backend.loop.considering import OpenLabelStudio
from ml_backend.registry import Registry, Version
from ml_backend.settings import Settings
from training.data import PAIR_SCORES, Judgement, PairKey, read_pair_scores
from training.errors import DataError, RankloopError

SHORTEST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
PAUSE_PER_S = 20.0
"""Looking takes at most a twentieth of the time: a large project is exported whole."""
TRY_AGAIN_S = 3600.0
"""When reconciliation looks again at what couldn't be read, though nothing has changed."""

logger = logging.getLogger(__name__)

_Try = tuple[float, float, dict[str, Any] | None]
"""A look: when, in seconds since 1970, how many seconds it took, and what it saw."""


class Opinions:
    """Hears what the people of a line say.

    A stored document has `people`, `leaderboard` and `contest`, and what it was made from: `seen` (the newest judgement
    of each project), `champion`, `computed_at` (ISO 8601) and `took_s`.

    Args:
        settings: the configuration.
        registry: keeps the documents.
        connections: knows which projects are on the line.
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
        self._tried: dict[str, _Try] = {}
        self._scores: tuple[str, dict[PairKey, float]] = ("", {})

    def hear(self, line: str, seen: Mapping[str, str]) -> dict[str, Any]:
        """Compute and store a line's document from all its judgements, and do what its contest came to.

        Args:
            line: the line.
            seen: the newest judgement of each project, as whoever asked for this knew it.

        Returns:
            `line`, the number of `judgements`, `took_s`, and whether the contest is `settled` by this look.
        """
        began = time.monotonic()
        about = self._about(line, seen)
        computed_at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        try:
            judgements = self._judgements(line)
            contest = self._contest(line, judgements)
            documents = self._documents(judgements, self._registry.current(line), contest, computed_at)
        finally:
            took_s = time.monotonic() - began
            self._tried[line] = (self._now(), took_s, about)
        made = {**documents, **about, "took_s": round(took_s, 3), "computed_at": computed_at}
        self._registry.store_opinions(line, made)
        logger.debug("line %s: %d judgements heard in %.1f s", line, len(judgements), took_s)
        settled = settle(self._registry, contest)
        return {"line": line, "judgements": len(judgements), "took_s": took_s, "settled": settled}

    def pause_s(self, line: str, seen: Mapping[str, str]) -> float | None:
        """How long to wait before looking again, in seconds: the longer the last look took, the longer. None if there
        is nothing to hear, now or before.
        """
        at, took_s, about = self._tried.get(line) or self._stored_try(line)
        if about is None and not seen:
            return None
        pause_s = min(max(SHORTEST_PAUSE_S, PAUSE_PER_S * took_s), LONGEST_PAUSE_S)
        return max(0.0, at + pause_s - self._now())

    def is_stale(self, line: str, seen: Mapping[str, str] | None) -> bool:
        """Whether there is something unheard on a line: newer judgements, or another champion or challenger than at the
        last look.

        A look that failed isn't repeated for the same judgements within `TRY_AGAIN_S`.

        Args:
            line: the line.
            seen: the newest judgement of each project now; None if that isn't known.
        """
        if not seen:
            return False
        try:
            stored = self._registry.opinions(line)
            about = self._about(line, seen)
        except RegistryError as error:
            logger.warning("it can't be told what is unheard on line %s: %s", line, error)
            return False
        if about == {name: stored.get(name) for name in about}:
            return False
        at, _, tried = self._tried.get(line, (float("-inf"), 0.0, None))
        return tried != about or self._now() >= at + TRY_AGAIN_S

    def _about(self, line: str, seen: Mapping[str, str]) -> dict[str, Any]:
        """What a document would be made from now."""
        challenger = self._registry.challenger(line)
        champion = self._registry.current(line)
        return {"seen": dict(seen), "champion": champion.name, "challenger": challenger.name if challenger else None}

    def _stored_try(self, line: str) -> _Try:
        """When a line was last looked at, how long that took, and what was there, as the registry knows it."""
        try:
            stored = self._registry.opinions(line)
        except RegistryError as error:
            logger.warning("the last opinions of line %s can't be read: %s", line, error)
            stored = {}
        if not stored:
            return float("-inf"), 0.0, None
        about = {name: stored.get(name) for name in ("seen", "champion", "challenger")}
        return datetime.fromisoformat(stored["computed_at"]).timestamp(), float(stored["took_s"]), about

    def _judgements(self, line: str) -> list[Judgement]:
        """All judgements of a line's connected projects. One whose tasks can't be read is left out, and said."""
        found: list[Judgement] = []
        with self._open() as label_studio:
            for project in self._connections.all(fresh=False):
                if project.line == line:
                    try:
                        found += self._judgements_of(label_studio, project)
                    except DataError as error:
                        logger.warning("project %d isn't heard: %s", project.project_id, error)
        return found

    def _judgements_of(self, label_studio: LabelStudio, project: Connected) -> list[Judgement]:
        config = parse_label_config(project.label_config)
        tasks = label_studio.export_tasks(project.project_id)
        return judgements_from_export(tasks, config, project.project_id, self._settings.ground_truth)[0]

    def _contest(self, line: str, judgements: Sequence[Judgement]) -> Contest:
        """Where the line's contest stands."""
        votes, most = self._votes_per_pair(line), self._settings.contest_pairs
        return judge_contest(self._registry, line, judgements, votes=votes, most=most)

    def _votes_per_pair(self, line: str) -> int:
        """How many people are to judge a task of the line, in the project where it is fewest."""
        numbers = [project.project_id for project in self._connections.all(fresh=False) if project.line == line]
        with self._open() as label_studio:
            return min((label_studio.project(number).votes_per_task for number in numbers), default=1)

    def _documents(
        self, judgements: Sequence[Judgement], champion: Version, contest: Contest, computed_at: str
    ) -> dict[str, Any]:
        """What is stored of a line, each document under its name."""
        from ml_backend.people import people_document  # imports SciPy and pandas, which only this job needs

        people = people_document(judgements, self._scores_of(champion), computed_at)
        leaderboard = rank_versions(meetings_in(judgements, read_moment))
        return {"people": people, "leaderboard": leaderboard.document(), "contest": contest.document()}

    def _scores_of(self, champion: Version) -> dict[PairKey, float]:
        """The log-odds that the champion's reward model gave the pairs it didn't learn from; see `write_pair_scores`.
        Empty for the base, for a version of an earlier release, and where the files can't be read.
        """
        if self._scores[0] != champion.name:
            try:
                path = self._registry.fetch(champion) / "reward" / PAIR_SCORES
                self._scores = champion.name, read_pair_scores(path) if path.is_file() else {}
            except RankloopError as error:
                logger.warning("nobody is compared with the reward model of %s: %s", champion.name, error)
                return {}
        return self._scores[1]
