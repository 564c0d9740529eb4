"""Percentiles of the measurements, and whether they meet their targets."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

TARGETS_MS = {"health": 50.0, "setup": 200.0, "webhook": 100.0}
"""Upper limits of the 99th percentiles. Label Studio's timeouts are 1 s, 3 s and 1 s."""


MOST_REQUESTS = {"look_requests": 10, "promotion_requests": 60}
"""Upper limits of what is asked of Label Studio about a project of 100,000 tasks: at a look, and after a promotion."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(samples: Iterable[tuple[str, float, str]]) -> dict[str, Any]:
    """Figures by kind of request, and a count of each error."""
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    wrong: Counter[str] = Counter()
    for kind, milliseconds, fault in samples:
        by_kind[kind].append(milliseconds)
        if fault:
            wrong[f"{kind}: {fault}"] += 1
    requests = {
        kind: {
            "requests": len(values),
            **{f"p{round(100 * share)}_ms": round(percentile(values, share), 1) for share in (0.5, 0.9, 0.99)},
            "max_ms": round(max(values), 1),
        }
        for kind, values in sorted(by_kind.items())
    }
    promised = {f"{kind}_p99_ms": requests[kind]["p99_ms"] for kind in TARGETS_MS if kind in requests}
    return {**promised, "errors": sum(wrong.values()), "requests": requests, "faults": dict(wrong.most_common(20))}


def missed(figures: dict[str, Any]) -> list[str]:
    """The targets that weren't met, as readable text."""
    found = [
        f"{kind}: p99 {figures.get(f'{kind}_p99_ms')} ms, promised {target:.0f} ms"
        for kind, target in TARGETS_MS.items()
        if figures.get(f"{kind}_p99_ms", math.inf) >= target
    ]
    found += [
        f"{name.replace('_', ' ')}: {figures[name]}, promised {most}"
        for name, most in MOST_REQUESTS.items()
        if figures.get(name, 0) > most
    ]
    return found + ([f"{figures['errors']} errors"] if figures["errors"] else [])


def as_table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    names = ("requests", "p50_ms", "p90_ms", "p99_ms", "max_ms")
    lines = [["request", *(name.replace("_", " ") for name in names)]]
    lines += [[kind, *(str(row[name]) for name in names)] for kind, row in figures["requests"].items()]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
