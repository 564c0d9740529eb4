"""Fakes of our own two edges, for testing the server without MLflow and DBOS."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError
from ml_backend.registry import LineState


@dataclass(frozen=True, slots=True)
class FakeVersion:
    """The parts of a registered version that the server uses."""

    number: int
    name: str
    line: str = "default"
    metrics: dict[str, float] = field(default_factory=dict)
    files: str = ""


class FakeRegistry:
    """Versions in memory, with their artifacts in folders; the last promoted one of each line is its champion. Lines
    other than the default one have the same versions, with the line in their names.

    Attributes:
        taken_over: when the data folder was taken over; projects created before that are on the default line. Here they
            all are, unless a test changes it.
        heard: the stored opinions of each line.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.broken: str | None = None
        self.taken_over = float("inf")
        self.paused: dict[str, str] = {}
        self.past: list[Any] = []
        self.challengers: dict[str, str] = {}
        self.heard: dict[str, dict[str, Any]] = {}
        self._champions: dict[str, str] = {}
        self._lock = threading.Lock()

    def ensure_base(self) -> FakeVersion:
        """Make the first version champion if there is none."""
        return self.current()

    def champion(self, line: str = "default") -> FakeVersion | None:
        """The champion, or the injected fault."""
        if self.broken:
            raise RegistryError(self.broken)
        name = self._champions.get(line)
        return self.get(name) if name else None

    def current(self, line: str = "default") -> FakeVersion:
        """The champion, or else the first version."""
        champion = self.champion(line)
        with self._lock:
            if champion is None:
                self._champions[line] = self._names(line)[0]
            return champion or self.get(self._champions[line])

    def versions(self, line: str = "default") -> list[FakeVersion]:
        """All versions of a line, oldest first."""
        return [self.get(name) for name in self._names(line)]

    def get(self, name: str) -> FakeVersion:
        """A version by its name."""
        model, _, number = name.rpartition("-v")
        line = model.partition(".")[2] or "default"
        return FakeVersion(self._names(line).index(name) + 1, name, line, files=f"rankloop-v{number}")

    def fetch(self, version: FakeVersion) -> Path:
        """The folder of its artifacts."""
        return self.folders[version.files]

    def promote(self, name: str) -> FakeVersion:
        """Make a version the champion of its line."""
        version = self.get(name)
        self._champions[version.line] = name
        return version

    def challenger(self, line: str = "default") -> FakeVersion | None:
        """The one in `challengers`."""
        name = self.challengers.get(line)
        return self.get(name) if name else None

    def promote_challenger(self, name: str, champion: str, _why: str) -> FakeVersion:
        """Make it champion in place of that one."""
        assert self.current(self.get(name).line).name == champion
        del self.challengers[self.get(name).line]
        return self.promote(name)

    def lines(self) -> list[str]:
        """The lines that have a champion."""
        if self.broken:
            raise RegistryError(self.broken)
        return sorted(self._champions) or ["default"]

    def only_line(self) -> str:
        """The one line there is."""
        (line,) = self.lines()
        return line

    def must_exist(self, line: str) -> None:
        """Every line that is asked for exists."""

    def line_states(self) -> list[LineState]:
        """The lines that have a champion."""
        return [LineState(line, self.champion(line), self.paused.get(line)) for line in self.lines()]  # type: ignore[arg-type]

    def taken_over_at(self) -> float:
        """See `taken_over`."""
        return self.taken_over

    def paused_since(self, line: str) -> str | None:
        """Since when a line is paused."""
        return self.paused.get(line)

    def attempts(self, _line: str) -> list[Any]:
        """The cycles in `past`."""
        return self.past

    def run_of(self, workflow_id: str) -> str:
        """Every cycle has a run."""
        return f"run of {workflow_id}"

    def seen_on(self, _line: str) -> dict[int, str]:
        """Nothing has been seen."""
        return {}

    def store_opinions(self, line: str, opinions: dict[str, Any]) -> None:
        """Keep them in memory."""
        self.heard[line] = opinions

    def opinions(self, line: str) -> dict[str, Any]:
        """What was stored."""
        if self.broken:
            raise RegistryError(self.broken)
        return self.heard.get(line, {})

    def _names(self, line: str) -> list[str]:
        infix = "" if line == "default" else f".{line}"
        return [name.replace("rankloop-", f"rankloop{infix}-") for name in self.folders]


class FakeJobs:
    """Records what was requested."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.lines: list[str | None] = []
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered: queue.SimpleQueue[str] = queue.SimpleQueue()

    def _note(self, what: str, project_id: int) -> None:
        self.entered.put(what)
        assert self.gate.wait(30)
        if self.fault:
            raise self.fault
        self.calls.append((what, project_id))

    def judgement_arrived(self, project_id: int) -> None:
        """Record a judgement."""
        self._note("judgement", project_id)

    def start_training(self, project_id: int, line: str | None = None) -> dict[str, Any]:
        """Record a training request and the line it names."""
        self.lines.append(line)
        self._note("train", project_id)
        return {"job": "cycle-1", "status": "queued", "message": "a training cycle was queued"}

    def propose(self, project_id: int) -> None:
        """Record a request for proposals."""
        self._note("propose", project_id)

    def status(self) -> dict[str, Any]:
        """Nothing is ever running."""
        return {"running": [], "waiting": []}
