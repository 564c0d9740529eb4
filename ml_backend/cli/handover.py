"""Commands that take a version away: download, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli.options import settings_from

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
