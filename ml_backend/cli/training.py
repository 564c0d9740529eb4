"""Commands for training and its versions: train, cancel, pause, resume, status, versions, promote, rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli.options import LineOption, ProjectOption, line_from, project_id_from, settings_from

if TYPE_CHECKING:
    from ml_backend.registry import Version

LineArgument = Annotated[str, typer.Argument(help="A line's name, as `rankloop status` lists it.")]


def train(
    project: ProjectOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the cycle is done, with a progress bar.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train even if the project's line is paused.")] = False,
) -> None:
    """Start a training cycle now, on all judgements so far of the project's line.

    It starts whatever earlier cycles came to: failures and too few new judgements only hold back automatic cycles.

    Examples: `rankloop train`, `rankloop train --project 7 --wait`
    """
    from ml_backend.cli.reports import wait_for_cycle
    from ml_backend.loop import Jobs

    settings = settings_from()
    jobs = Jobs(settings)
    job = jobs.start_training(project_id_from(settings, project), force=force)
    typer.echo(job["message"])
    if job["job"] is None:
        raise typer.Exit(1)
    if wait:
        raise typer.Exit(wait_for_cycle(jobs, job["job"]))


def cancel(job: Annotated[str, typer.Argument(help="A cycle's id, as `rankloop status` lists it.")]) -> None:
    """End a training cycle that is queued or running. Its training process ends within seconds.

    The judgements it was started for count as used: the next automatic cycle waits for new ones. `rankloop train`
    starts one at once.

    Example: `rankloop cancel cycle-7-0f3a9c21`
    """
    from ml_backend.loop import Jobs, cancel_cycle
    from ml_backend.registry import Registry

    settings = settings_from()
    cycle = cancel_cycle(Jobs(settings), Registry(settings), job)
    typer.echo(f"{cycle.job}, which was {cycle.state}, is cancelled.")


def pause(line: LineArgument) -> None:
    """Stop a line from starting training cycles by itself, for instance while its guidelines change.

    People keep labeling, the champion keeps answering, and judgements keep counting. A running cycle goes on
    (`rankloop cancel` ends it). Cycles asked for by hand are refused too, except with `rankloop train --force`.

    Example: `rankloop pause project-7`
    """
    from ml_backend.registry import Registry

    since = Registry(settings_from()).pause(line)
    typer.echo(f"Line {line} is paused since {since}; go on with: rankloop resume {line}")


def resume(line: LineArgument) -> None:
    """Let a paused line train by itself again: at once, if enough judgements are waiting.

    Example: `rankloop resume project-7`
    """
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    settings = settings_from()
    was_paused = Registry(settings).resume(line)
    typer.echo(f"Line {line} trains by itself again." if was_paused else f"Line {line} wasn't paused.")
    Jobs(settings).champion_changed()


def status() -> None:
    """Show the lines with their champions, what each waits for, running and queued jobs, and how earlier cycles ended.

    Example: `rankloop status`
    """
    from ml_backend.cli.reports import show_status

    show_status(settings_from())


def versions(line: LineOption = None) -> None:
    """List the model versions of a line, or of all, with what each was trained on and how good it is.

    Examples: `rankloop versions`, `rankloop versions --line summaries`
    """
    from ml_backend.cli.reports import show_versions

    show_versions(settings_from(), line)


def promote(name: Annotated[str, typer.Argument(help="A version's name, as `rankloop versions` lists it.")]) -> None:
    """Make a version the champion of its line. A running backend loads it within seconds, and proposes its answers for
    the open tasks of the line's projects. If people were comparing a challenger with the champion, that is over.

    Example: `rankloop promote rankloop.project-7-v3`
    """
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    settings = settings_from()
    registry = Registry(settings)
    challenger = registry.challenger(registry.get(name).line)
    version = registry.promote(name)
    typer.echo(f"{version.name} is now the champion of line {version.line}.{_ended(challenger)}")
    Jobs(settings).champion_changed()


def rollback(line: LineOption = None) -> None:
    """Go back to a line's previous champion. A cycle that is running meanwhile doesn't undo that.

    Examples: `rankloop rollback`, `rankloop rollback --line summaries`
    """
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    settings = settings_from()
    registry = Registry(settings)
    line = line_from(registry, line)
    challenger = registry.challenger(line)
    version = registry.rollback(line)
    typer.echo(f"{version.name} is the champion of line {version.line} again.{_ended(challenger)}")
    Jobs(settings).champion_changed()


def _ended(challenger: Version | None) -> str:
    """What to say about a contest that a person's decision ended."""
    return f" The contest of {challenger.name} is over." if challenger else ""
