"""The registry's objects, reduced to the fields used here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

DEFAULT_LINE = "default"
"""The line whose versions have no line in their names: all there was before there were lines."""
CONTEST = "contest"
"""The tag of a version that says what became of it as a challenger; see `Fate`."""
LINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
PROMOTED_AT = "promoted_at"
"""The tag of a version that says when it last became champion."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a challenger: `promoted`, `rejected` by people's verdicts, `replaced` by a newer challenger, or
    `ended` by hand.

    champion: the version that it challenged.
    at: ISO 8601.
    """

    fate: str
    why: str
    champion: str
    at: str

    def as_tag(self) -> str:
        """As a tag of its version."""
        return json.dumps(asdict(self))

    @classmethod
    def from_tag(cls, tag: str) -> Fate | None:
        """Read a tag; None if it is empty."""
        return cls(**json.loads(tag)) if tag else None


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version; `name` is what Label Studio shows, `created_at` a Unix time in seconds."""

    number: int
    name: str
    line: str
    run_id: str
    parent: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    created_at: float

    @property
    def files(self) -> str:
        """What its files are stored under: lines that start from the same version share its files."""
        return self.tags.get("files") or self.name

    @property
    def fate(self) -> Fate | None:
        """What became of it as a challenger; None if it never was one, or still is."""
        return Fate.from_tag(self.tags.get(CONTEST, ""))

    @property
    def pruned_at(self) -> str | None:
        """When its weights were deleted, as ISO 8601; None if they are there."""
        return self.tags.get("pruned_at") or None

    @property
    def promoted_at(self) -> str | None:
        """When it last became champion, as ISO 8601; None if it never did, or before this was noted."""
        return self.tags.get(PROMOTED_AT) or None


@dataclass(frozen=True, slots=True)
class LineState:
    """A line: its champion (None before its first), since when it is paused, as ISO 8601, or None, and the version
    that people compare with its champion, if there is one.
    """

    name: str
    champion: Version | None
    paused_since: str | None
    challenger: Version | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A training cycle as recorded in its run.

    `snapshot_at` is the time of the newest annotation it saw, as Label Studio wrote it; None if it ended before that.
    `status` is `running`, `promoted`, `challenger` (people compare its version with the champion), `registered`
    (neither, as the champion had changed), `rejected`, `failed`, `cancelled` or `refused`, and `reason` says why. Times
    are in seconds since 1970.
    """

    workflow_id: str
    status: str
    reason: str
    snapshot_at: str | None
    tags: Mapping[str, str]
    began_at: float
    ended_at: float | None

    @property
    def line(self) -> str:
        """The line it was for; cycles from before there were lines belong to the default line."""
        return self.tags.get("line") or DEFAULT_LINE

    @property
    def seen(self) -> dict[int, str]:
        """The newest judgement of each project that it took into account, as Label Studio wrote its time."""
        if "seen" in self.tags:
            return {int(project): moment for project, moment in json.loads(self.tags["seen"]).items() if moment}
        return {int(self.tags["project_id"]): self.snapshot_at} if self.snapshot_at else {}
