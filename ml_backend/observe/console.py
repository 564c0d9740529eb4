"""Console output: tables and progress bars, in plain text when not on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 200
"""Table width when output goes to a file or a pipe, so that nothing is cut off."""


def output() -> Console:
    """The console for results (stdout)."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def messages() -> Console:
    """The console for everything but results (stderr)."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table. Brackets in cells are printed literally, not read as markup."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[cell.replace("[", r"\[") for cell in row])
    output().print(table)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr; yields a function that takes the number done and the total.

    If stderr isn't a terminal, one line is printed at the end instead.
    """
    console = messages()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(description, total=None)
        last = (0, 0)

        def tell(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)
            bar.update(task, completed=done, total=total)

        yield tell
    if last != (0, 0):
        console.print(f"{description}: {last[0]} of {last[1]}", markup=False)


@contextmanager
def stage_bar() -> Iterator[Callable[[str, int | None, int | None], None]]:
    """Show a progress bar for several stages; yields a function that takes the stage, the number done and the total.

    If stderr isn't a terminal, one line per stage is printed instead.
    """
    console = messages()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        stages: list[str] = []

        def tell(description: str, done: int | None, total: int | None) -> None:
            bar.update(task, description=description, completed=done or 0, total=total)
            stage = description.split()[0]
            if not console.is_terminal and stages[-1:] != [stage]:
                stages.append(stage)
                console.print(stage, markup=False)

        yield tell
