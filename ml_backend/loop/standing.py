"""The state of the jobs: training cycles, background proposals, and what lines are waiting for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.loop import names
from ml_backend.loop.child import read_progress

if TYPE_CHECKING:
    from dbos import DBOSClient

_STATES = {"PENDING": "running", "DELAYED": "queued", "ENQUEUED": "queued", "CANCELLED": "cancelled"}
_TRAINING_STEPS = {"sft", "reward", "ppo"}
LOOKED_AT = 200
"""How many of the latest ended jobs to look at. Jobs are deleted a week after their end."""


@dataclass(frozen=True, slots=True)
class CycleJob:
    """A training cycle: `state` is queued, running, promoted, challenger, registered, rejected, failed, cancelled or
    refused, and `reason` says why. `line` is None while only the project is known that it was asked for.

    `step` is the current step; `done` and `total` are set while it trains. `created_at` is in seconds since 1970.
    """

    job: str
    project_id: int
    state: str
    step: str | None = None
    done: int | None = None
    total: int | None = None
    reason: str = ""
    created_at: float = 0.0
    line: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the cycle is over."""
        return self.state not in {"queued", "running"}


def cycle_job(client: DBOSClient, item: Any, home: Path) -> CycleJob:
    """A training cycle's state, from its workflow and, while it trains, its folder under `home`."""
    cycle = CycleJob(
        item.workflow_id,
        project_of(item),
        _STATES.get(item.status, "failed"),
        created_at=(item.created_at or 0) / 1000,
        line=given_to(item).get("line"),
    )
    if item.status == "SUCCESS":
        output = item.output or {}
        return replace(cycle, state=output["status"], reason=output["reason"])
    if cycle.state != "running":
        return replace(cycle, reason="" if item.error is None else str(item.error))
    step = client.get_event(item.workflow_id, names.STEP_EVENT, timeout_seconds=0)
    progress = read_progress(home / "cycles" / item.workflow_id / str(step)) if step in _TRAINING_STEPS else None
    done, total = (progress.step, progress.total) if progress else (None, None)
    return replace(cycle, step=step, done=done, total=total)


def proposing(client: DBOSClient) -> list[dict[str, Any]]:
    """Running and queued background proposals, one entry per project.

    Returns:
        `project_id`, `state` (running or queued), the number of proposals `stored`, and of tasks `left` (None until the
        first were stored). A job stores about once a minute.
    """
    found = client.list_workflows(
        name=names.PROPOSE_MISSING, status=list(names.UNFINISHED), load_input=True, load_output=False
    )
    projects: dict[int, dict[str, Any]] = {}
    for item in found:
        project_id = project_of(item)
        running = item.status not in names.WAITING
        if running or project_id not in projects:
            done = _propose_steps(client, item) if running else []
            projects[project_id] = {
                "project_id": project_id,
                "state": "running" if running else "queued",
                "stored": sum(step["stored"] for step in done),
                "left": done[-1]["left"] if done else None,
            }
    return [projects[project_id] for project_id in sorted(projects)]


def stored_by_version(client: DBOSClient) -> dict[str, int]:
    """How many proposals of each version recent background jobs have stored."""
    stored: dict[str, int] = {}
    for item in _ended(client, names.PROPOSE_MISSING):
        version = item.output.get("version")
        if version:
            stored[version] = stored.get(version, 0) + item.output["stored"]
    return stored


def waiting(client: DBOSClient) -> list[dict[str, Any]]:
    """What each line is waiting for, as last looked at: when a judgement arrived, when a cycle ended, or at
    reconciliation.

    Returns:
        For each line, and each project that sends events without being connected: `line` (None for the latter),
        `projects` (id and number of new judgements of each), `new` and `needed` judgements, `why` no cycle starts yet,
        or why one did, and `until` when it may start at the latest, in seconds since 1970, or None.
    """
    looks = [(item.updated_at or 0, item.output) for item in _ended(client, names.CONSIDER_TRAINING)]
    for item in _ended(client, names.RECONCILE):
        looks += [(item.updated_at or 0, look) for look in item.output.get("looks", [])]
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for _, look in sorted(looks, key=lambda found: found[0]):
        if look.get("projects") is None or "new" not in look:  # it failed, or an older release wrote it
            continue
        named = look["line"] is not None
        shown = {name: look[name] for name in ("line", "projects", "new", "needed", "why", "until")}
        if not named:
            shown["projects"] = [[look["project_id"], 0]]
        ours = {number for number, _ in shown["projects"]}
        # what was seen of these projects before, while they were connected or weren't, is over
        for key in [key for key, other in newest.items() if ours.issuperset(n for n, _ in other["projects"])]:
            del newest[key]
        newest[(look["line"] or "", 0 if named else look["project_id"])] = shown
    return [newest[key] for key in sorted(newest)]


def new_judgements(found: list[dict[str, Any]]) -> dict[int, int]:
    """For each connected project, the judgements made since its line's last cycle, from what `waiting` returned."""
    counts = {number: count for look in found if look["line"] is not None for number, count in look["projects"]}
    return dict(sorted(counts.items()))


def project_of(item: Any) -> int:
    """The project that a workflow was queued for."""
    return int(item.input["args"][0])


def given_to(item: Any) -> dict[str, Any]:
    """What a training cycle was given when it was queued; nothing under an older release."""
    arguments = item.input["args"]
    return dict(arguments[2]) if len(arguments) > 2 else {}


def _ended(client: DBOSClient, name: str) -> list[Any]:
    found = client.list_workflows(name=name, status="SUCCESS", sort_desc=True, limit=LOOKED_AT)
    return [item for item in found if isinstance(item.output, dict)]


def _propose_steps(client: DBOSClient, item: Any) -> list[dict[str, Any]]:
    outputs = [step["output"] for step in client.list_workflow_steps(item.workflow_id)]
    return [output for output in outputs if isinstance(output, dict) and "stored" in output and "left" in output]
