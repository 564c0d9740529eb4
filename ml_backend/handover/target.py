"""A folder that appears whole, where nothing is lost that somebody keeps there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.atomic import atomic_folder
from training.errors import ConfigError


@contextmanager
def new_folder(out: Path, *, force: bool, keep: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `out` if the block succeeds; otherwise nothing changes.

    Args:
        out: where it is to be. It may exist if it is empty.
        force: whether a folder that isn't empty is replaced, with everything in it.
        keep: a folder that is never replaced, like the current one and a person's home.

    Raises:
        ConfigError: something is there already, or the folder can't be written.
    """
    target = out.expanduser().resolve()
    if target.is_dir() and any(target.iterdir()):
        if not force:
            raise ConfigError(
                "the folder isn't empty", got=str(out), remedy="Choose another, or replace all of it with --force."
            )
        for precious in (keep, Path.cwd(), Path.home()):
            if precious.resolve().is_relative_to(target):
                raise ConfigError("this folder is never replaced", got=str(out), remedy="Choose another.")
    elif target.exists() and not target.is_dir():
        raise ConfigError("this is a file", got=str(out), expected="a new folder, or an empty one")
    try:
        with atomic_folder(target) as fresh:
            yield fresh
    except OSError as error:
        raise ConfigError("the folder can't be written", got=str(out), remedy=f"{error.strerror or error}.") from error
