"""A project of 100,000 tasks: what a worker asks of Label Studio about it, and how much memory it needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fake_label_studio import FakeLabelStudio
from large_project import PROJECT, LargeProject

from ml_backend.demo.stack import environment_of
from ml_backend.label_studio.client import open_label_studio
from ml_backend.lines.connections import Connections
from ml_backend.loop.client import Jobs
from ml_backend.processes.children import Children, rankloop_command
from ml_backend.processes.logs import log_tail
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import load_settings

TASKS = 100_000
JUDGED = 400
"""As many judgements are new at each look; a cycle would need more."""
AHEAD = 300
QUIET_S = 3.0
TIMEOUT_S = 300.0
KEY = "0123456789abcdef0123456789abcdef01234567"


def measure_size(folder: Path, model: Path) -> dict[str, Any]:
    """Run a real worker on the large project: start, propose, look again, promote.

    Returns:
        `start_requests`, `look_requests` and `promotion_requests`: what it asked of Label Studio until it had proposed
        for the look-ahead, at a look with nothing to do, and after a promotion; `worker_peak_mb`: its largest resident
        memory.
    """
    project = LargeProject(size=TASKS, judged=JUDGED)
    with project.served() as fake:
        chosen = {
            "data_dir": str(folder),
            "model": str(model),
            "device": "cpu",
            "label_studio_url": fake.url,
            "label_studio_api_key": KEY,
            "backend_url": project.url,
            "train_after": 10 * JUDGED,
            "propose_ahead": AHEAD,
            "reconcile_cron": "0 0 1 1 *",
        }
        settings = load_settings(**chosen)
        registry, jobs = Registry(settings), Jobs(settings)
        (connected,) = Connections(settings, registry, partial(open_label_studio, settings)).all()
        base = registry.current(connected.line)
        fake.asked.clear()
        with Children(environment_of(chosen), logs=folder) as children:
            process = children.start("worker", rankloop_command("worker"))
            _until(lambda: project.by_version()[base.name] == AHEAD, folder)
            start = _quiet(fake)
            jobs.champion_changed()  # has the worker look, though nothing changed
            _until(lambda: len(fake.asked) > start, folder)
            look = _quiet(fake) - start
            better = _another_version(registry, base, connected.line, folder / "better")
            registry.promote(better)
            jobs.champion_changed()
            _until(lambda: project.by_version()[better] == AHEAD, folder)
            promotion = _quiet(fake) - start - look
            peak = _peak_mb(process)
        jobs.close()
    return {
        "tasks": TASKS,
        "start_requests": start,
        "look_requests": look,
        "promotion_requests": promotion,
        "worker_peak_mb": peak,
    }


def _another_version(registry: Registry, base: Version, line: str, folder: Path) -> str:
    """Register the base once more, as a version of its own. Returns its name."""
    shutil.copytree(registry.fetch(base), folder)
    run = registry.start_cycle_run(PROJECT, "size", {"trigger": "load"})
    tags = {"kind": "cycle", "project_id": str(PROJECT), "workflow_id": "size"}
    return registry.register(folder, run_id=run, parent=base.name, metrics={}, tags=tags, line=line).name


def _until(done: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not done():
        if time.monotonic() > until:
            raise RuntimeError(f"the worker isn't done:\n{log_tail(folder / 'worker.log')}")
        time.sleep(0.2)


def _quiet(fake: FakeLabelStudio) -> int:
    """The number of requests, once no more have come for a while."""
    asked, since = len(fake.asked), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(0.2)
        if len(fake.asked) != asked:
            asked, since = len(fake.asked), time.monotonic()
    return asked


def _peak_mb(process: int) -> int:
    """The largest resident memory of a process and its children so far, in MB."""
    return round(sum(_peak_kb(number) for number in (process, *_children(process))) / 1024)


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    return [number for child in map(int, listed) for number in (child, *_children(child))]


def _peak_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0
