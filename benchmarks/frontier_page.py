"""The frontier's plot, table and figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_frontier
from benchmarks.learned import interval

AT_NATS = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """A policy on its way: `share` is wins / (wins + losses) against the base, the rest as in a policy's report."""

    iteration: int
    share: float
    kl_nats: float
    similarity: float
    distinct_2: float
    entropy_nats: float
    answer_tokens: float


def share_at(points: Sequence[tuple[float, float]], nats: float) -> float:
    """The share at this KL by linear interpolation between (KL, share), from the base's (0, 0.5); the last beyond."""
    before = (0.0, 0.5)
    for point in sorted(points):
        if point[0] >= nats:
            part = (nats - before[0]) / max(1e-9, point[0] - before[0])
            return before[1] + part * (point[1] - before[1])
        before = point
    return before[1]


def write(
    found: dict[str, list[list[Look]]], pools: list[dict[int, tuple[float, float]]], pairs: int, *, real: bool
) -> None:
    """Save plot, figures and table."""
    at = {
        name: [share_at([(look.kl_nats, look.share) for look in looks], AT_NATS) for looks in runs]
        for name, runs in found.items()
    }
    sampled = [share_at(list(pool.values()), AT_NATS) for pool in pools]
    part = "frontier_real" if real else "frontier"
    plot_frontier(found, pools, ROOT / "docs" / "images" / f"{part}.png")
    model, alike = (
        ("SmolLM2-135M, taste for positive answers", "pairs") if real else ("the demo model", "pairs with a winner")
    )
    lines = [
        f"## What the KL buys, on {model}\n\n{len(pools)} seeds, {pairs} {alike}; shares are wins / "
        "(wins + losses) against the base on held-out prompts, by the annotator, mean ± 95% interval over seeds.\n",
        f"| | share at {AT_NATS:g} nats | at the end: share | KL, nats | answers alike | distinct bigrams | tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        last = [looks[-1] for looks in runs]
        ends = [
            statistics.mean(getattr(look, field) for look in last)
            for field in ("share", "kl_nats", "similarity", "distinct_2", "answer_tokens")
        ]
        cells = f"{ends[0]:.1%} | {ends[1]:.1f} | {ends[2]:.1%} | {ends[3]:.0%} | {ends[4]:.1f}"
        lines.append(f"| `{name}` | {_interval(at[name])} | {cells} |")
    for n in (8, max(pools[0])):
        nats = pools[0][n][0]
        lines.append(f"| best of {n}, sampled | {_interval([pool[n][1] for pool in pools])} at {nats:.1f} | | | | | |")
    text = "\n".join([*lines, "", f"![Preferred share over KL](images/{part}.png)", ""])
    best = max(at, key=lambda name: statistics.mean(at[name]))
    report.merge(
        {
            f"{part}_share_at_5_nats": statistics.mean(at.get("ppo", at[best])),
            f"{part}_best_share_at_5_nats": statistics.mean(at[best]),
            f"{part}_bon_share_at_5_nats": statistics.mean(sampled),
            **{f"{part}_{name.replace('-', '_')}_share_at_5_nats": statistics.mean(at[name]) for name in at},
            "details": {
                part: {
                    "looks": {
                        name: [[asdict(look) for look in looks] for looks in runs] for name, runs in found.items()
                    },
                    "best_of_n": pools,
                    "text": text,
                    **report.circumstances(),
                }
            },
        }
    )


def _interval(values: list[float]) -> str:
    mean, reach = interval(values)
    return f"{mean:.1%}" if math.isnan(reach) else f"{mean:.1%} ± {reach:.1%}"
