"""Removes what somebody deleted from everything that was made of it, as far as that can be done."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ml_backend.registry import Registry, Version
from ml_backend.settings import Settings
from ml_backend.upkeep.scrubbing import Wanted, scrubbed, texts_of
from training.atomic import write_atomically
from training.errors import ConfigError

_TEXTS = {".json", ".jsonl", ".csv", ".txt", ".md"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed, or would be.

    files: the files that changed: below the data folder, or of a version or a cycle in the registry.
    texts: how many different texts were looked for.
    learned: versions whose weights were trained on it, and that still have them.
    """

    files: tuple[str, ...]
    texts: int
    learned: tuple[str, ...]


def purge(settings: Settings, registry: Registry, wanted: Wanted, *, dry_run: bool = False) -> Purged:
    """Remove annotations, tasks or texts from cycles, versions and their records. Idempotent; repeat it if it failed.

    A preference that a wanted annotation voted on goes as a whole. Versions are sealed anew, so they still verify.

    Raises:
        ConfigError: nothing is wanted, or a running cycle is training on it.
        RegistryError: MLflow refuses a request or doesn't answer, or a version is damaged.
    """
    if not (wanted.annotations or wanted.tasks or wanted.texts):
        raise ConfigError("nothing to purge was named", expected="--annotation, --task or --text")
    home = settings.home()
    found = wanted.also(_texts_in_snapshots(home / "cycles", wanted))
    local = {path: new for path, old in _files(home) if (new := scrubbed(path.name, old, found)) != old}
    runs = registry.cycle_runs()
    for path in local:
        name = path.relative_to(home).parts[1]
        if any(attempt.workflow_id == name and attempt.status == "running" for _, attempt in runs):
            raise ConfigError(f"{name} is training on it", remedy=f"Wait for its end, or `rankloop cancel {name}`.")
    edit = partial(_edited, wanted=found)
    files, learned = [], []
    for version in _versions(registry):
        changed = registry.edit_version(version.name, edit, dry_run=dry_run)
        files += [f"{version.name}: {name}" for name in changed]
        if changed and not version.pruned_at:
            learned.append(version.name)
    for run_id, attempt in runs:
        changed = registry.edit_run(run_id, edit, dry_run=dry_run)
        files += [f"{attempt.workflow_id} in the registry: {name}" for name in changed]
    for path, new in local.items():
        files.append(str(path.relative_to(home)))
        if not dry_run:
            write_atomically(path, new)
    return Purged(tuple(files), len(found.texts), tuple(learned))


def _edited(name: str, content: bytes, *, wanted: Wanted) -> bytes:
    return scrubbed(name, content, wanted)


def _versions(registry: Registry) -> Iterator[Version]:
    """Every version that was trained; lines share the base, which nobody's judgements are in."""
    for line in registry.lines():
        yield from (version for version in registry.versions(line) if version.tags.get("kind") != "base")


def _texts_in_snapshots(cycles: Path, wanted: Wanted) -> frozenset[str]:
    found: set[str] = set()
    for path in cycles.rglob("tasks.json") if cycles.is_dir() else []:
        try:
            found |= texts_of(json.loads(path.read_bytes()), wanted)
        except ValueError as error:
            logger.warning("%s can't be read: %s", path, error)
    return frozenset(found)


def _files(home: Path) -> Iterator[tuple[Path, bytes]]:
    """The text files of all cycles. Copies of versions are fetched again once the versions have changed."""
    for path in sorted((home / "cycles").rglob("*")) if (home / "cycles").is_dir() else []:
        if path.suffix in _TEXTS and path.is_file() and "policy" not in path.parts:
            yield path, path.read_bytes()
