"""The phrases in `phrases.json`, from which answers are composed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PHRASES_FILE = Path(__file__).parent / "phrases.json"


@dataclass(frozen=True, slots=True)
class Clauses:
    """Remarks made of a lead, a clause and a tail, drawn independently."""

    lead: tuple[str, ...]
    clause: tuple[str, ...]
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates by use. A phrase listed twice in the file is drawn twice as often."""

    questions: tuple[str, ...]
    tip: tuple[str, ...]
    reason: tuple[str, ...]
    opening: tuple[str, ...]
    closing: tuple[str, ...]
    feeling: tuple[str, ...]
    asking: tuple[str, ...]
    vague: Clauses
    rude: Clauses
    within: tuple[str, ...]
    again: tuple[str, ...]


def _clauses(raw: dict[str, list[str]]) -> Clauses:
    return Clauses(tuple(raw["lead"]), tuple(raw["clause"]), tuple(raw["tail"]))


@cache
def load_phrases() -> Phrases:
    """Read `phrases.json`."""
    raw: dict[str, Any] = json.loads(PHRASES_FILE.read_text(encoding="utf-8"))
    plain = ("questions", "tip", "reason", "opening", "closing", "feeling", "asking")
    return Phrases(
        **{name: tuple(raw[name]) for name in plain},
        vague=_clauses(raw["vague"]),
        rude=_clauses(raw["rude"]),
        within=tuple(raw["repetition"]["within"]),
        again=tuple(raw["repetition"]["again"]),
    )
