"""Progress of a training run: a bar and a table for people, `progress.json` for the parent process."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.atomic import write_atomically

PROGRESS_FILE = "progress.json"
_SECONDS_BETWEEN_FILES = 0.5
_COLUMN_WIDTH = 14

Metrics = Mapping[str, float | None]


class StageProgress:
    """Reports one stage's progress, as a context manager.

    `progress.json` is {"stage", "step", "total", "metrics"} and is replaced atomically, at most twice a second.

    Args:
        folder: where to write `progress.json`, None to write none.
        stage: the stage, for instance `reward`.
        quiet: write only the file.
        with_bar: whether to show the bar.
        console: where bar and table go, stderr by default. There is no bar if it isn't a terminal.
    """

    def __init__(
        self,
        folder: Path | None,
        stage: str,
        *,
        quiet: bool = False,
        with_bar: bool = True,
        console: Console | None = None,
    ) -> None:
        self._path = folder / PROGRESS_FILE if folder else None
        self._stage = stage
        self._console = console or Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not with_bar or not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(stage, total=None)
        self._columns: tuple[str, ...] = ()
        self._metrics: dict[str, float | None] = {}
        self._steps = (0, 1)
        self._written_at = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, step: int, total: int, metrics: Metrics | None = None) -> None:
        """Report that `step` of `total` steps are done; a metric keeps its value until it is given again."""
        self._metrics.update(metrics or {})
        self._steps = step, total
        self._bar.update(self._task, description=self._stage, completed=step, total=total)
        self._write(urgent=step >= total)

    def measuring(self, done: int, total: int) -> None:
        """Report that the base has answered `done` of `total` training prompts, before the first step."""
        if done == 0:
            self.say(f"Measuring the base's own answers to {total} prompts")
        self._metrics["measured_share"] = done / max(1, total)
        self._bar.update(self._task, description=f"{self._stage}: base's answers", completed=done, total=total)
        self._write(urgent=done in (0, total))

    def evaluating(self, done: int, total: int) -> None:
        """Report that `done` of `total` evaluation prompts are done; the step stays as it was."""
        if done == 0:
            self.say(f"Evaluating on {total} held-out prompts")
        share = done / max(1, total)
        self._metrics["evaluated_share"] = share
        self._bar.update(self._task, description=f"{self._stage}: evaluation", completed=done, total=total)
        self._write(urgent=done in (0, total))

    def row(self, metrics: Metrics) -> None:
        """Add a row to the table, under a header of the metrics' names if they are new."""
        if tuple(metrics) != self._columns:
            self._columns = tuple(metrics)
            heads = "".join(name.rjust(_COLUMN_WIDTH) for name in metrics)
            self._console.print(heads, style="bold", soft_wrap=True)
        self._console.print("".join(_cell(value).rjust(_COLUMN_WIDTH) for value in metrics.values()), soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self._console.print(sentence, soft_wrap=True)

    def _write(self, *, urgent: bool) -> None:
        now = time.monotonic()
        if self._path and (urgent or now - self._written_at >= _SECONDS_BETWEEN_FILES):
            self._written_at = now
            step, total = self._steps
            content = {"stage": self._stage, "step": step, "total": total, "metrics": self._metrics}
            write_atomically(self._path, json.dumps(content) + "\n")


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
