"""Deletes the weights of old versions and the folders of old cycles, by a policy that keeps what is needed."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ml_backend.registry import Registry, Version
from ml_backend.settings import Settings

ROLLBACKS = 3
"""How many champions before the current one are kept whatever their age, for `rankloop rollback`."""
LEFTOVER_AFTER_S = 24 * 3600.0
"""After this long, a temporary folder is what a killed process left behind."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be: versions without their weights now, cycles without a folder, leftover folders.

    `unknown` are folders of cycles that the registry has no record of; these are left alone. `bytes` counts local
    files only.
    """

    versions: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    bytes: int = 0


def prune(settings: Settings, registry: Registry, *, dry_run: bool = False) -> Pruned:
    """Delete what is older than the newest `keep_versions` versions of each line, and `keep_cycles` cycles.

    Kept whatever their age: champions and the last ones before them, the parents of these, each line's newest version
    and its base, what a running cycle works with, and running cycles. Of a version only the weights go; its record,
    parent, metrics, preferences and reports stay.

    Args:
        settings: the policy, and the data folder.
        registry: the versions and cycles.
        dry_run: only say what would be deleted.

    Raises:
        RegistryError: MLflow refuses a request or doesn't answer; what was deleted until then stays deleted.
    """
    home = settings.home()
    versions = _old_versions(registry, settings.keep_versions)
    cycles, unknown = _old_cycles(registry, home / "cycles", settings.keep_cycles)
    leftovers = _leftovers(home / "versions")
    freed = sum(_size(path) for path in [*(registry.cached(version) for version in versions), *cycles, *leftovers])
    pruned = [version.name for version in versions if not version.pruned_at]
    if not dry_run:
        pruned = [v.name for v in versions if registry.prune(v.name, ROLLBACKS) and not v.pruned_at]
        for path in [*cycles, *leftovers]:
            shutil.rmtree(path, ignore_errors=True)
        if pruned or cycles:
            logger.info("pruned %d versions and %d cycles, %d MB", len(pruned), len(cycles), freed // 2**20)
    return Pruned(tuple(pruned), _names(cycles), _names(leftovers), _names(unknown), freed)


def _old_versions(registry: Registry, keep: int) -> list[Version]:
    """Versions whose weights may go, and those whose local copy was left when they went."""
    found = []
    for line in registry.lines() if keep else []:
        versions = registry.versions(line)
        if len(versions) <= keep:
            continue
        needed = registry.protected(line, ROLLBACKS)
        old = [version for version in versions[:-keep] if version.name not in needed]
        found += [v for v in old if not v.pruned_at or registry.cached(v).exists()]
    return found


def _old_cycles(registry: Registry, folder: Path, keep: int) -> tuple[list[Path], list[Path]]:
    """Folders of cycles that may go, and those that nothing is known of."""
    folders = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() and keep else []
    old, unknown = [], []
    for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        attempt = registry.attempt_of(path.name)
        if attempt is None:
            unknown.append(path)
        elif attempt.status != "running":
            old.append(path)
    return old, unknown


def _leftovers(folder: Path) -> list[Path]:
    before = time.time() - LEFTOVER_AFTER_S
    found = folder.glob(".*") if folder.is_dir() else []
    return [path for path in found if path.is_dir() and path.stat().st_mtime < before]


def _names(paths: list[Path]) -> tuple[str, ...]:
    return tuple(path.name for path in paths)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
