"""Plots of training curves."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.atomic import write_atomically

_COLOURS = ("#3457d5", "#e0603c", "#2b9c6a", "#8a5cc2")


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes: named lines over shared steps, or over another quantity; None and NaN leave a gap."""

    title: str
    steps: Sequence[float]
    lines: Mapping[str, Sequence[float | None]]
    over: str = "step"


def draw_curves(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Write a PNG with the panels side by side, three to a row."""
    # Imported here: matplotlib takes a second to import and is needed only at the end of a run.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontweight="bold")
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        for colour, (name, values) in zip(_COLOURS, panel.lines.items(), strict=False):
            heights = [math.nan if value is None else value for value in values]
            axes.plot(
                panel.steps, heights, label=name, color=colour, linewidth=1.6, marker="." if len(heights) < 30 else ""
            )
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(panel.over, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        if len(panel.lines) > 1:
            axes.legend(fontsize=8, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(path, picture.getvalue())
