"""Does a policy earn its KL? What it gained, beside the best of n answers of the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.evaluation.best_of_n import BestOfN
from training.runs import Panel, draw_curves


def best_within(curve: Sequence[BestOfN], kl_nats: float) -> BestOfN:
    """The largest n whose KL is at most the policy's, at least n = 1."""
    return max((point for point in curve if point.kl_nats <= max(0.0, kl_nats)), key=lambda point: point.n)


def verdict(curve: Sequence[BestOfN], kl_nats: float, win_rate: float) -> str:
    """A sentence on whether the policy earns its KL.

    Args:
        curve: best-of-n of the base.
        kl_nats: the policy's KL from the base.
        win_rate: the policy's against the base by the same judge on the same prompts.
    """
    same = best_within(curve, kl_nats)
    own = f"At {kl_nats:.1f} nats from the base the policy wins {win_rate:.0%} against it"
    if win_rate > same.win_rate:
        most = ", the most that was tried" if same.n == curve[-1].n else ""
        return f"The policy earns its KL. {own}; the best of {same.n} answers of the base{most}, {same.win_rate:.0%}."
    as_good = next(point for point in curve if point.win_rate >= win_rate)
    return (
        f"The policy doesn't earn its KL. {own}; the best of {as_good.n} answers of the base wins "
        f"{as_good.win_rate:.0%} at {as_good.kl_nats:.1f} nats, without any training."
    )


def draw_frontier(path: Path, curve: Sequence[BestOfN], kl_nats: float, reached: Mapping[str, float | None]) -> None:
    """Write a PNG of best-of-n over KL, with the policy beside it.

    Args:
        path: where to.
        curve: best-of-n of the base.
        kl_nats: the policy's KL from the base.
        reached: the policy's `gain` and `win rate`.
    """
    lines = {"gain": [point.gain for point in curve], "win rate": [point.win_rate for point in curve]}
    titles = {"gain": "score above the base's, in spreads", "win rate": "win rate against the base, by the judge"}
    panels = [
        Panel(
            titles[name],
            [*(point.kl_nats for point in curve), kl_nats],
            {"best of n of the base": [*values, None], "policy": [None] * len(values) + [reached[name]]},
            over="KL from the base, nats",
        )
        for name, values in lines.items()
    ]
    draw_curves(path, "What the KL buys", panels)
