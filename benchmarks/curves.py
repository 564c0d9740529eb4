"""The benchmark's plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot_learned(found: dict[str, list[Any]], folder: Path) -> None:
    """Plot accuracy by seed and preferred share over seconds of PPO, ours beside TRL's: `learned.png`."""
    figure, (left, right) = _figure(2)
    for offset, (name, label) in enumerate((("accuracy", "ours"), ("trl_accuracy", "TRL"))):
        left.scatter([offset] * len(found[name]), found[name], label=label)
        left.hlines(sum(found[name]) / len(found[name]), offset - 0.2, offset + 0.2)
    left.set_xticks([0, 1], ["ours", "TRL"])
    left.set_title("Reward accuracy on held-out pairs, each seed and the mean")
    for name, label, colour in (("ppo", "ours", "C0"), ("trl_ppo", "TRL", "C1")):
        for number, points in enumerate(found[name]):
            if points:
                seconds, shares = zip(*[(0.0, 0.5), *points], strict=True)
                right.plot(seconds, shares, marker="o", color=colour, label=label if number == 0 else None)
    right.set_xlabel("seconds of PPO")
    right.set_title("Share of answers preferred over the base's")
    right.legend()
    _save(figure, folder / "learned.png")


def plot_growth(found: dict[str, list[tuple[float, float]]], memory: list[tuple[float, float]], folder: Path) -> None:
    """Plot seconds and memory over size: `growth.png`."""
    figure, axes = _figure(3)
    for axis, (name, points) in zip(axes, found.items(), strict=False):
        sizes, seconds = zip(*points, strict=True)
        axis.plot(sizes, seconds, marker="o")
        axis.set_title(name)
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
    sizes, peaks = zip(*memory, strict=True)
    axes[2].plot(sizes, peaks, marker="o")
    axes[2].set_ylim(bottom=0)
    axes[2].set_title("reward training: MB of memory, excluding page cache")
    _save(figure, folder / "growth.png")


def plot_preferences(found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]], folder: Path) -> None:
    """Plot accuracy over judgements, a panel for each row, every split a point: `preferences.png`."""
    figure, axes = _figure(len(found))
    for axis, (name, by_size) in zip([axes] if len(found) == 1 else axes, found.items(), strict=True):
        for number, learner in enumerate(dict.fromkeys(name for each in by_size.values() for name in each)):
            points = {place: each[learner] for place, each in enumerate(by_size.values()) if learner in each}
            means = [sum(accuracy for accuracy, _ in each) / len(each) for each in points.values()]
            axis.plot(list(points), means, marker="o", label=learner, color=f"C{number}")
            for place, each in points.items():
                axis.scatter([place] * len(each), [a for a, _ in each], color=f"C{number}", alpha=0.3)
        axis.set_xticks(range(len(by_size)), list(by_size))
        axis.set_xlabel("judgements")
        axis.set_title(name)
        axis.legend()
    _save(figure, folder / "preferences.png")


def plot_frontier(found: dict[str, list[list[Any]]], pools: list[dict[int, tuple[float, float]]], place: Path) -> None:
    """Plot preferred share, and how alike answers are, over KL, each seed a line."""
    figure, (left, right) = _figure(2)
    for colour, (name, runs) in enumerate(found.items()):
        for number, looks in enumerate(runs):
            label = name if number == 0 else None
            nats = [look.kl_nats for look in looks]
            left.plot([0.0, *nats], [0.5, *(k.share for k in looks)], marker="o", color=f"C{colour}", label=label)
            right.plot(nats, [look.similarity for look in looks], marker="o", color=f"C{colour}", label=label)
    for number, pool in enumerate(pools):
        nats, shares = zip(*pool.values(), strict=True)
        left.plot(nats, shares, marker="x", color="black", label="best of n, sampled" if number == 0 else None)
    left.set_title("Share of answers preferred over the base's")
    right.set_title("Overlap of answers to different prompts")
    for axis in (left, right):
        axis.set_xlabel("KL from the base, nats")
        axis.legend()
    _save(figure, place)


def plot_selection(found: dict[str, dict[str, list[Any]]], folder: Path) -> None:
    """Plot held-out accuracy over judgements by how pairs are chosen, a panel for each row: `selection.png`."""
    figure, axes = _figure(len(found))
    for axis, (name, by_selection) in zip([axes] if len(found) == 1 else axes, found.items(), strict=True):
        for number, (selection, runs) in enumerate(by_selection.items()):
            places = range(len(runs[0]))
            counts = [sum(run[k][0] for run in runs) / len(runs) for k in places]
            axis.plot(counts, [sum(run[k][1] for run in runs) / len(runs) for k in places], marker="o", label=selection)
            for run in runs:
                axis.scatter([look[0] for look in run], [look[1] for look in run], color=f"C{number}", alpha=0.2, s=8)
        axis.set_xlabel("judgements")
        axis.set_title(name)
        axis.legend()
    _save(figure, folder / "selection.png")


def _figure(panels: int) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * panels, 4))
    return figure, figure.subplots(1, panels)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
