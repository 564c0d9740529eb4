"""What the command line shows: tables and progress bars, plain where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 200
"""Columns a table may take where output goes to a file or a pipe, so that nothing is cut off."""


def output() -> Console:
    """The console for results (stdout)."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def messages() -> Console:
    """The console for everything that isn't the result (stderr)."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table. Texts are shown as they are: brackets in them are no markup."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[cell.replace("[", r"\[") for cell in row])
    output().print(table)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; yields a function to be told how many are done, and of how many.

    Where stderr is no terminal there is one line at the end instead.
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
    """A progress bar whose description changes; yields a function to be told the stage, what is done, and of how much.

    Where stderr is no terminal there is one line per stage instead.
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
