"""Fakes of our own two edges, for testing the server without MLflow and DBOS."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError


@dataclass(frozen=True, slots=True)
class FakeVersion:
    """The parts of a registered version that the server uses."""

    number: int
    name: str
    metrics: dict[str, float] = field(default_factory=dict)


class FakeRegistry:
    """Versions in memory, with their artifacts in folders; the last promoted one is champion."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.broken: str | None = None
        self._champion: str | None = None
        self._lock = threading.Lock()

    def ensure_base(self) -> FakeVersion:
        """Make the first version champion if there is none."""
        with self._lock:
            self._champion = self._champion or next(iter(self.folders))
            return self.get(self._champion)

    def champion(self) -> FakeVersion | None:
        """The champion, or the injected fault."""
        if self.broken:
            raise RegistryError(self.broken)
        return self.get(self._champion) if self._champion else None

    def current(self) -> FakeVersion:
        """The champion, or else the first version."""
        return self.champion() or self.ensure_base()

    def versions(self) -> list[FakeVersion]:
        """All versions, oldest first."""
        return [self.get(name) for name in self.folders]

    def get(self, name: str) -> FakeVersion:
        """A version by its name."""
        return FakeVersion(list(self.folders).index(name) + 1, name)

    def fetch(self, version: FakeVersion) -> Path:
        """The folder of its artifacts."""
        return self.folders[version.name]

    def promote(self, name: str) -> FakeVersion:
        """Make a version the champion."""
        self._champion = name
        return self.get(name)


class FakeJobs:
    """Records what was requested."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
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

    def start_training(self, project_id: int) -> dict[str, Any]:
        """Record a training request."""
        self._note("train", project_id)
        return {"job": "cycle-1", "status": "queued", "message": "a training cycle was queued"}

    def propose(self, project_id: int) -> None:
        """Record a request for proposals."""
        self._note("propose", project_id)

    def status(self) -> dict[str, Any]:
        """Nothing is ever running."""
        return {"running": []}
