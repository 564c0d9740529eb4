"""What the command line tells of versions and jobs, and how it waits for a training cycle."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.console import messages, output, progress_bar, show_table

if TYPE_CHECKING:
    from ml_backend.registry import Attempt, Registry, Version
    from ml_backend.settings import Settings

STAGES = ("sft", "reward", "ppo")
"""Folders of a cycle that hold a `progress.json` while it trains."""
POLL_S = 1.0
"""How often `rankloop train --wait` looks: the cycle runs in another process."""
_VERSION_COLUMNS = ("version", "champion", "annotations", "accuracy", "KL (nats)", "win rate", "parent", "created")


def show_versions(settings: Settings) -> None:
    """Print a table of all versions, oldest first."""
    from ml_backend.registry import Registry

    registry = Registry(settings)
    rows = list(version_rows(registry.versions(), registry.champion()))
    if rows:
        show_table(_VERSION_COLUMNS, rows)
    else:
        output().print("There is no version yet; the first `rankloop up` registers the base model.", markup=False)


def version_rows(versions: Iterable[Version], champion: Version | None) -> Iterator[tuple[str, ...]]:
    """One table row per version; what a version has no figure for (the base has none) is a dash."""
    for version in versions:
        figures = version.metrics
        yield (
            version.name,
            "*" if champion is not None and version.number == champion.number else "",
            _number(figures.get("annotations"), ".0f"),
            _number(figures.get("reward_accuracy"), ".1%"),
            _number(figures.get("kl_nats"), ".2f"),
            _number(figures.get("win_rate_vs_base"), ".1%"),
            version.parent or "-",
            _moment(version.created_at),
        )


def show_status(settings: Settings) -> None:
    """Print the champion, what is queued and running, and the latest cycles with how they ended."""
    from ml_backend.registry import Registry
    from ml_backend.workflows import Jobs

    registry = Registry(settings)
    champion = registry.champion()
    jobs = Jobs(settings).status()
    show_table(
        ("", ""),
        [("champion", champion.name if champion else "none yet"), *((key, _plain(jobs[key])) for key in jobs)],
    )
    cycles = [attempt_row(attempt, settings.home() / "cycles") for attempt in registry.attempts(limit=10)]
    if cycles:
        show_table(("cycle", "project", "began", "status", "why"), cycles, title="Training cycles, the latest first")


def attempt_row(attempt: Attempt, cycles: Path) -> tuple[str, ...]:
    """A training cycle as a table row; one that runs says how far it is."""
    running = current_stage(cycles / attempt.workflow_id) if attempt.status == "running" else None
    state = f"{running[0]} {running[1]}/{running[2]}" if running else attempt.status
    return (attempt.workflow_id, str(attempt.project_id), _moment(attempt.started_at), state, attempt.reason)


def wait_for_cycle(settings: Settings, workflow_id: str) -> int:
    """Wait until a training cycle has ended, with a progress bar for each of its stages.

    Returns:
        0 when its version was promoted, 1 when it wasn't.
    """
    from ml_backend.registry import Registry

    registry = Registry(settings)
    folder = settings.home() / "cycles" / workflow_id
    pause = threading.Event()
    attempt = None
    while attempt is None or attempt.status == "running":
        stage = current_stage(folder)
        if stage is None:
            pause.wait(POLL_S)
        else:
            _follow_stage(folder, stage[0], pause)
        attempt = _attempt(registry, workflow_id)
    messages().print(f"The cycle ended: {attempt.status}. {attempt.reason}".rstrip(), markup=False)
    return 0 if attempt.status == "promoted" else 1


def current_stage(folder: Path) -> tuple[str, int, int] | None:
    """The stage a cycle is in, with the steps done and all of them; None when none has begun."""
    for name in reversed(STAGES):
        try:
            content = json.loads((folder / name / "progress.json").read_text(encoding="utf-8"))
            return name, int(content["step"]), int(content["total"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not begun, or not a file of ours: an earlier stage may tell
    return None


def _follow_stage(folder: Path, name: str, pause: threading.Event) -> None:
    with progress_bar(name) as tell:
        while (now := current_stage(folder)) is not None and now[0] == name:
            tell(now[1], now[2])
            pause.wait(POLL_S)
            if now[1] >= now[2]:
                return


def _attempt(registry: Registry, workflow_id: str) -> Attempt | None:
    return next((attempt for attempt in registry.attempts() if attempt.workflow_id == workflow_id), None)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return "; ".join(_plain(item) for item in value) or "none"
    return str(value)
