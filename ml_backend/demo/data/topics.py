"""The everyday topics the demo model was taught: a task, six tips each, and a reason for every tip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOPICS_FILE = Path(__file__).parent / "topics.json"


@dataclass(frozen=True, slots=True)
class Tip:
    """One piece of concrete advice, an imperative without a capital, and a sentence saying why it works."""

    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Topic:
    """Something people ask about: `task` reads after "how to", `doing` after "advice on"."""

    task: str
    doing: str
    tips: tuple[Tip, ...]


@cache
def load_topics() -> tuple[Topic, ...]:
    """Every topic, in the file's order."""
    return tuple(
        Topic(row["task"], row["doing"], tuple(Tip(action, reason) for action, reason in row["tips"].items()))
        for row in json.loads(TOPICS_FILE.read_text(encoding="utf-8"))
    )
