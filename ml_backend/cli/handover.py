"""Commands that take a version or a line's data away: download, push, export --to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ml_backend.cli.options import settings_from

if TYPE_CHECKING:
    from ml_backend.settings import Settings

ExportTarget = Literal["trl", "datasets", "jsonl"]
ExportForm = Literal["standard", "conversational"]
VersionArgument = Annotated[str, typer.Argument(help="A version's name, as `rankloop versions` lists it.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the folder, with everything in it.")]


def download(
    version: VersionArgument,
    out: Annotated[Path, typer.Option(help="The new folder.")],
    force: ForceOption = False,
) -> None:
    """Write a version as a folder that Transformers loads: weights, tokenizer, chat template, sampling, and a card
    that says what is known of it.

    Example: `rankloop download rankloop.project-7-v3 --out my-model`
    """
    from ml_backend.handover import download as write
    from ml_backend.registry import Registry

    settings = settings_from()
    done = write(settings, Registry(settings), version, out, force=force)
    typer.echo(
        f"{done.version} is in {done.place} ({done.size / 2**20:.0f} MB). Its README.md says what is known of it."
    )


def push(
    version: VersionArgument,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub; it is created if missing.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a repository that is created.")] = False,
) -> None:
    """Upload a version to the Hugging Face hub, as one commit: what `rankloop download` writes.

    A repository that is created is private. Log in first with `hf auth login`, or set HF_TOKEN.

    Example: `rankloop push rankloop.project-7-v3 my-team/summaries`
    """
    from ml_backend.handover import Hub
    from ml_backend.handover import push as upload
    from ml_backend.registry import Registry

    settings = settings_from()
    done = upload(settings, Registry(settings), version, repository, Hub(), private=not public)
    typer.echo(f"{done.version} is at {done.place} ({done.size / 2**20:.0f} MB).")


def export_folder(
    settings: Settings, name: str | None, out: Path, to: ExportTarget, form: ExportForm | None, *, force: bool
) -> None:
    """Write a line's data, or those that a version learned from, and print what was written."""
    from ml_backend.handover import export_line
    from ml_backend.label_studio import open_label_studio
    from ml_backend.registry import Registry

    opener = partial(open_label_studio, settings)
    done = export_line(settings, Registry(settings), opener, name, out, to=to, form=form, force=force)
    typer.echo(f"{done.name} is in {out}, in {done.form}.")
    for kind, counts in done.counts.items():
        parts = ", ".join(f"{split} {count}" for split, count in counts.items())
        typer.echo(f"{kind}: {sum(counts.values())} ({parts})")
    if done.ties:
        typer.echo(f"{done.ties} pairs with tied votes are left out; --to jsonl has them.", err=True)
