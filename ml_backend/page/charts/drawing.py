"""Charts as SVG: drawn once, readable in light and in dark."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ml_backend.page.charts.chart import Chart, Series

DRAWN_KEPT = 200
_INK, _GRID = "#010203", "#040506"
_COLOURS = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04")
"""Stand for colours that the style sheet below chooses."""
_STYLE = """<style>
svg{--ink:#1d2433;--grid:#8a93a6;--c0:#2f55d4;--c1:#b3440e;--c2:#1b7a4d;--c3:#7a3fb8}
@media(prefers-color-scheme:dark){svg{--ink:#e4e8f1;--grid:#7d879c;--c0:#8fb0ff;--c1:#ffad7a;--c2:#7fd6a8;--c3:#cfa6ff}}
</style>"""
LONGEST_LABEL = 24
MARKED = 30
"""With fewer points than this each is marked."""
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")


class Drawings:
    """Draws each chart once. Thread-safe; one chart is drawn at a time."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._drawing = threading.Lock()

    def svg(self, chart: Chart) -> bytes:
        """The chart as SVG."""
        digest = chart.digest
        with self._drawing:
            if digest not in self._drawn:
                self._drawn[digest] = draw(chart)
                while len(self._drawn) > DRAWN_KEPT:
                    self._drawn.popitem(last=False)
            self._drawn.move_to_end(digest)
            return self._drawn[digest]


def draw(chart: Chart) -> bytes:
    """Draw a chart. Text stays text, and colours follow the reader's choice of light or dark."""
    # Imported here: matplotlib takes a second to import, and few requests need it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    plain: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": chart.digest,
        "font.family": "sans-serif",
        "text.parse_math": False,
    }
    with rc_context(plain):
        figure = Figure(figsize=(chart.width, chart.height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for place, series in enumerate(chart.series):
            _plot(axes, chart, series, place)
        _dress(axes, chart)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _coloured(out.getvalue().decode())


def _plot(axes: Any, chart: Chart, series: Series, place: int) -> None:
    colour, style = _COLOURS[place % len(_COLOURS)], _STYLES[place % len(_STYLES)]
    marker = _MARKERS[place % len(_MARKERS)]
    points = [point for point in series.points if point.y is not None] if series.is_marked else list(series.points)
    aside = 0.08 * (place - (len(chart.series) - 1) / 2) if chart.labels else 0.0  # so that intervals don't overlap
    xs = [point.x + aside for point in points]
    ys = [float("nan") if point.y is None else point.y for point in points]
    across, up = (ys, xs) if chart.is_lying else (xs, ys)
    axes.plot(
        across, up, linestyle="none" if series.is_marked else style, color=colour, label=series.name, linewidth=1.8,
        marker=marker if len(points) < MARKED or series.is_marked else "", markersize=6 if series.is_marked else 4,
    )  # fmt: skip
    for x, point in zip(xs, points, strict=True):
        if point.low is not None and point.high is not None:
            ends, here = [point.low, point.high], [x, x]
            across, up = (ends, here) if chart.is_lying else (here, ends)
            axes.plot(across, up, color=colour, linewidth=1.2, marker="|" if chart.is_lying else "_", markersize=7)


def _dress(axes: Any, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    values, others = (axes.xaxis, axes.yaxis) if chart.is_lying else (axes.yaxis, axes.xaxis)
    if chart.labels:
        others.set_ticks(range(len(chart.labels)), [_short(label) for label in chart.labels])
        (axes.set_ylim if chart.is_lying else axes.set_xlim)(-0.5, len(chart.labels) - 0.5)
    elif all(float(point.x).is_integer() for series in chart.series for point in series.points):
        others.set_major_locator(MaxNLocator(integer=True))
    if chart.is_share:
        values.set_major_formatter(PercentFormatter(1.0))
    others.set_label_text("" if chart.labels else chart.over, color=_INK)
    values.set_label_text(chart.up, color=_INK)
    axes.grid(color=_GRID, alpha=0.35, linewidth=0.6)
    axes.tick_params(colors=_INK, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        axes.legend(
            frameon=False, fontsize=9, labelcolor=_INK, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0,
            ncols=2 if len(chart.series) < 3 else 1,
        )  # fmt: skip


def _short(label: str) -> str:
    """A label that leaves room for the drawing; the table has all of it."""
    plain = label.removeprefix("rankloop.")
    return plain if len(plain) <= LONGEST_LABEL else f"{plain[: LONGEST_LABEL // 2]}…{plain[-LONGEST_LABEL // 2 + 1 :]}"


def _coloured(svg: str) -> bytes:
    """The drawing with colours that follow the reader's choice, in place of those that stood for them."""
    tokens: Sequence[tuple[str, str]] = [
        (_INK, "var(--ink)"),
        (_GRID, "var(--grid)"),
        *((colour, f"var(--c{i})") for i, colour in enumerate(_COLOURS)),
    ]
    for token, variable in tokens:
        svg = svg.replace(token, variable)
    start = svg.index("<svg")
    end = svg.index(">", start) + 1
    return (svg[:end] + _STYLE + svg[end:]).encode()
