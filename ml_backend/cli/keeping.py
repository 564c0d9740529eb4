"""Commands for what is kept: prune, purge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli.options import settings_from

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")]


def prune(dry_run: DryRunOption = False) -> None:
    """Delete the weights of old versions and the folders of old cycles. The worker does it by itself.

    RANKLOOP_KEEP_VERSIONS and RANKLOOP_KEEP_CYCLES say how many are kept. Champions, the last ones before them, their
    parents and the newest versions are always kept, and so are all records and metrics.

    Example: `rankloop prune --dry-run`
    """
    from ml_backend.registry import Registry
    from ml_backend.upkeep import prune as delete_old

    settings = settings_from()
    done = delete_old(settings, Registry(settings), dry_run=dry_run)
    for what, names in (("weights of", done.versions), ("cycle", done.cycles), ("leftover", done.leftovers)):
        for name in names:
            typer.echo(f"{what} {name}")
    for name in done.unknown:
        typer.echo(f"cycles/{name} stays: the registry has no record of it", err=True)
    count = len(done.versions) + len(done.cycles) + len(done.leftovers)
    verb = "would be" if dry_run else "were"
    typer.echo(f"{count} {verb} deleted, {done.bytes / 2**20:.1f} MB on this machine.")


def purge(
    project: Annotated[int | None, typer.Option("--project", help="The project of the annotations or tasks.")] = None,
    annotation: Annotated[list[int] | None, typer.Option(help="Id of a deleted annotation; may be repeated.")] = None,
    task: Annotated[list[int] | None, typer.Option(help="Id of a deleted task; may be repeated.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text, whoever wrote it; may be repeated.")] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="A file that holds one text, of several lines perhaps.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Remove deleted annotations, tasks or texts from everything that was made of them: the snapshots, preferences and
    reports of cycles and versions, on this machine and in MLflow.

    Delete them in Label Studio first: the next cycle reads again what is still there.

    Examples:

    `rankloop purge --project 7 --annotation 1204 --annotation 1205 --dry-run`

    `rankloop purge --text "My phone number is 555 0100"`
    """
    from ml_backend.registry import Registry
    from ml_backend.upkeep import Wanted
    from ml_backend.upkeep import purge as remove
    from training.data import read_text
    from training.errors import ConfigError

    if (annotation or task) and project is None:
        raise ConfigError("annotations and tasks are numbered across projects", remedy="Add --project ID.")
    texts = [*(text or []), *([read_text(text_file)] if text_file else [])]
    if not all(each.strip() for each in texts):
        raise ConfigError("a text to purge is blank", expected="what is to be removed")
    stripped = frozenset(each.strip() for each in texts)
    wanted = Wanted(project, frozenset(annotation or []), frozenset(task or []), stripped)
    settings = settings_from()
    done = remove(settings, Registry(settings), wanted, dry_run=dry_run)
    for name in done.files:
        typer.echo(name)
    typer.echo(f"{len(done.files)} files {'would be' if dry_run else 'were'} changed.")
    if done.learned:
        typer.echo(
            f"The weights of {', '.join(done.learned)} learned from it, which can't be undone. A version that is "
            "trained now doesn't; `rankloop prune` deletes old weights.",
            err=True,
        )
    typer.echo(
        "Not looked through: Label Studio, files that `rankloop export` wrote, backups, and the data folders of other "
        "machines.",
        err=True,
    )
