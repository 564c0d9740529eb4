"""A record of the injected faults and their outcomes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """A training cycle that went through faults: judgements made before it, and those its version used."""

    job: str
    completed: bool
    made: int
    used: int
    lost: int
    note: str = ""


@dataclass(slots=True)
class Row:
    """A kind of fault. Several kinds may share a cycle, e.g. kills at each of its steps."""

    fault: str
    tried: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "fault": self.fault,
            "tried": self.tried,
            "cycles_completed": sum(outcome.completed for outcome in self.outcomes),
            "judgements_made": sum(outcome.made for outcome in self.outcomes),
            "judgements_used": sum(outcome.used for outcome in self.outcomes),
            "lost": sum(outcome.lost for outcome in self.outcomes),
        }


class Ledger:
    """Rows by kind of fault, from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.failed_requests: list[str] = []
        self.double_cycles: list[str] = []
        self.requests = 0
        self.trouble: list[str] = []

    def record(self, tried: dict[str, int], outcome: Outcome) -> None:
        """Record how often each kind of fault happened to one cycle."""
        with self._lock:
            self._outcomes[outcome.job] = outcome
            for fault, times in tried.items():
                row = self._rows.setdefault(fault, Row(fault))
                row.tried += times
                row.outcomes.append(outcome)
            if not outcome.completed or outcome.lost:
                self.trouble.append(f"{outcome.job}: {outcome.note or 'not promoted'}")

    def asked(self, failure: str | None = None) -> None:
        """Record an annotator's request, and its `failure` if it failed."""
        with self._lock:
            self.requests += 1
            if failure:
                self.failed_requests.append(failure)

    def as_json(self) -> dict[str, Any]:
        """Totals over different cycles, and a row for each kind of fault."""
        with self._lock:
            rows = [row.as_json() for row in self._rows.values()]
            outcomes = list(self._outcomes.values())
            return {
                "tried": sum(row["tried"] for row in rows),
                "kinds": len(rows),
                "lost": sum(outcome.lost for outcome in outcomes),
                "failed_requests": len(self.failed_requests),
                "double_cycles": len(self.double_cycles),
                "requests": self.requests,
                "cycles": len(outcomes),
                "cycles_completed": sum(outcome.completed for outcome in outcomes),
                "judgements_made": sum(outcome.made for outcome in outcomes),
                "judgements_used": sum(outcome.used for outcome in outcomes),
                "faults": rows,
                "trouble": [*self.trouble, *self.failed_requests[:20], *self.double_cycles],
            }


def as_table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    names = ("fault", "tried", "cycles_completed", "judgements_made", "judgements_used", "lost")
    heads = ("fault", "tried", "cycles completed", "made", "used", "lost")
    lines: list[Iterable[str]] = [heads, *([str(row[name]) for name in names] for row in figures["faults"])]
    lines.append(["together (each cycle once)", *(str(figures[name]) for name in names[1:])])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
