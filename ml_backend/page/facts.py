"""What pages are made of, read from the registry, the job queue and Label Studio."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.lines import Connected
from ml_backend.loop import Jobs
from ml_backend.page.opinions import Opinions, read_opinions
from ml_backend.page.remembered import Known, Remembered
from ml_backend.registry import Attempt, LineState, Registry, Version
from training.ppo import PPOReport
from training.reward import RewardReport

REPORTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class LineFacts:
    """A line's versions, oldest first, its champions, the current one last, its latest cycles, newest first, and the
    version that people compare with its champion.
    """

    versions: tuple[Version, ...] = ()
    champions: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    opinions: Opinions = field(default_factory=Opinions)
    challenger: str | None = None


@dataclass(frozen=True, slots=True)
class VersionReports:
    """The reports of a version's trainings; None where there is none."""

    reward: RewardReport | None = None
    policy: PPOReport | None = None


class Facts:
    """Reads what pages show. Answers are remembered; a version's report, which never changes, for longer.

    Args:
        registry: versions, lines and cycles.
        jobs: what runs and waits.
        connected: lists the connected projects; None if Label Studio can't be asked.
        remembered: remembers the answers.
    """

    def __init__(
        self,
        registry: Registry,
        jobs: Jobs,
        connected: Callable[[], Sequence[Connected]] | None,
        remembered: Remembered | None = None,
    ) -> None:
        self._registry = registry
        self._jobs = jobs
        self._connected = connected
        self._remembered = remembered or Remembered()
        self._reports: OrderedDict[tuple[str, str], VersionReports] = OrderedDict()
        self._lock = threading.Lock()

    def ask_all(self) -> None:
        """Begin to ask for what every page needs."""
        self._remembered.start("lines", self._registry.line_states)
        self._remembered.start("jobs", self._jobs.status)
        if self._connected:
            self._remembered.start("projects", self._connected)

    def forget(self) -> None:
        """Read everything anew: something was changed."""
        self._remembered.forget()

    def lines(self) -> Known[list[LineState]]:
        """All lines with their champions."""
        return self._remembered.get("lines", self._registry.line_states)

    def jobs(self) -> Known[dict[str, Any]]:
        """What runs and waits; see `Jobs.status`."""
        return self._remembered.get("jobs", self._jobs.status)

    def projects(self) -> Known[Sequence[Connected]]:
        """The projects that are connected to this backend."""
        if self._connected is None:
            return Known(None, None, "LABEL_STUDIO_API_KEY isn't set, so Label Studio can't be asked. Set it.")
        return self._remembered.get("projects", self._connected)

    def opinions(self, line: str) -> Known[Opinions]:
        """What people say on a line."""
        return self._remembered.get(("opinions", line), lambda: self._ask_opinions(line))

    def ask_opinions(self, lines: Sequence[str]) -> None:
        """Begin to ask what people say on these lines."""
        for line in lines:
            self._remembered.start(("opinions", line), lambda line=line: self._ask_opinions(line))  # type: ignore[misc]

    def line(self, line: str) -> Known[LineFacts]:
        """All about a line."""
        return self._remembered.get(("line", line), lambda: self._ask_line(line))

    def version(self, name: str) -> Known[Version]:
        """A version; none, with a reason, if there is no such version."""
        return self._remembered.get(("version", name), lambda: self._registry.get(name))

    def reports(self, version: Version) -> Known[VersionReports]:
        """A version's reports."""
        key = (version.name, version.tags.get("manifest_sha256", ""))
        with self._lock:
            if key in self._reports:
                self._reports.move_to_end(key)
                return Known(self._reports[key], None, None)
        found = self._remembered.get(("report", *key), lambda: _parsed(self._registry.report(version)))
        if found.value is not None and found.fault is None:
            with self._lock:
                self._reports[key] = found.value
                while len(self._reports) > REPORTS_KEPT:
                    self._reports.popitem(last=False)
        return found

    def run_path(self, version: Version) -> Known[str]:
        """Where MLflow shows the version's run, below its server's address."""
        return self._remembered.get(("run", version.name), lambda: self._registry.run_path(version))

    def _ask_line(self, line: str) -> LineFacts:
        registry = self._registry
        versions, champions = tuple(registry.versions(line)), tuple(registry.champions(line))
        attempts, challenger = tuple(registry.attempts(line)), registry.challenger(line)
        name = challenger.name if challenger else None
        return LineFacts(versions, champions, attempts, self._ask_opinions(line), name)

    def _ask_opinions(self, line: str) -> Opinions:
        return read_opinions(self._registry.opinions(line))


def _parsed(content: Mapping[str, Any]) -> VersionReports:
    reward, policy = content.get("reward"), content.get("ppo")
    return VersionReports(
        RewardReport.from_json(dict(reward)) if reward else None, PPOReport.from_json(dict(policy)) if policy else None
    )
