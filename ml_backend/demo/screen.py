"""The demo's progress display: one line per phase with a spinner, its progress, and its duration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ml_backend.observe import messages


class Phase:
    """A running phase, which shows its progress and its current activity."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def at(self, done: int, total: int) -> None:
        """Show how many are done, of how many."""
        self._bar.update(self._task, completed=done, total=total)

    def note(self, detail: str) -> None:
        """Show the current activity or the outcome, which stays on the phase's line."""
        self._bar.update(self._task, detail=detail)


class Screen:
    """Lines on stderr, one per phase. If stderr isn't a terminal, each is printed when its phase is over.

    Attributes:
        seconds: how long each finished phase took, by name, and `total` since the start.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"total": 0.0}
        self._began = time.monotonic()
        self._console = messages()
        self._bar = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def phase(self, name: str, description: str) -> Iterator[Phase]:
        """Show a phase while the block runs, and time it.

        Args:
            name: the key for its duration in `seconds`.
            description: the text displayed.
        """
        task = self._bar.add_task(description, total=None, detail="")
        started = time.monotonic()
        yield Phase(self._bar, task)
        now = time.monotonic()
        self.seconds |= {name: now - started, "total": now - self._began}
        shown = next(item for item in self._bar.tasks if item.id == task)
        self._bar.update(task, total=shown.total or 1, completed=shown.total or 1)
        if not self._console.is_terminal:
            line = f"{description}: {self.seconds[name]:.0f} s  {shown.fields['detail']}".rstrip()
            self._console.print(line, markup=False)
