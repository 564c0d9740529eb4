"""Commands for training and its versions: train, status, versions, promote, rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from ml_backend.cli.options import ProjectOption, project_id_from, settings_from


def train(
    project: ProjectOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the cycle is done, with a progress bar.")] = False,
) -> None:
    """Start a training cycle now, on all judgements so far.

    Examples: `rankloop train`, `rankloop train --project 7 --wait`
    """
    from ml_backend.cli.reports import wait_for_cycle
    from ml_backend.loop import Jobs

    settings = settings_from()
    jobs = Jobs(settings)
    job = jobs.start_training(project_id_from(settings, project))
    typer.echo(job["message"])
    if job["job"] is None:
        raise typer.Exit(1)
    if wait:
        raise typer.Exit(wait_for_cycle(jobs, job["job"]))


def status() -> None:
    """Show the champion, running and queued jobs, and how earlier cycles ended.

    Example: `rankloop status`
    """
    from ml_backend.cli.reports import show_status

    show_status(settings_from())


def versions() -> None:
    """List the model versions, with what each was trained on and how good it is.

    Example: `rankloop versions`
    """
    from ml_backend.cli.reports import show_versions

    show_versions(settings_from())


def promote(name: Annotated[str, typer.Argument(help="A version's name, as `rankloop versions` lists it.")]) -> None:
    """Make a version the champion. A running backend loads it within seconds and proposes its answers for open tasks.

    Example: `rankloop promote rankloop-v3`
    """
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    settings = settings_from()
    typer.echo(f"{Registry(settings).promote(name).name} is now the champion.")
    Jobs(settings).champion_changed()


def rollback() -> None:
    """Go back to the previous champion.

    Example: `rankloop rollback`
    """
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    settings = settings_from()
    typer.echo(f"{Registry(settings).rollback().name} is the champion again.")
    Jobs(settings).champion_changed()
