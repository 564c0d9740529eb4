"""The state of the small jobs: background proposals, and judgements waiting for a training cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml_backend.loop import names

if TYPE_CHECKING:
    from dbos import DBOSClient

LOOKED_AT = 200
"""How many of the latest ended jobs to look at. Jobs are deleted a week after their end."""


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


def new_judgements(client: DBOSClient) -> dict[int, int]:
    """For each project, the judgements made since its last training cycle, as last counted: when some arrived, when a
    cycle ended, or at reconciliation.
    """
    counts: dict[int, tuple[float, int]] = {}
    for item in _ended(client, names.CONSIDER_TRAINING):
        if "new" in item.output:
            _keep_newest(counts, project_of(item), item.updated_at or 0, item.output["new"])
    for item in _ended(client, names.RECONCILE):
        for look in item.output.get("looks", []):
            if look["new"] is not None:
                _keep_newest(counts, look["project_id"], item.updated_at or 0, look["new"])
    return {project_id: counts[project_id][1] for project_id in sorted(counts)}


def project_of(item: Any) -> int:
    """The project that a workflow was queued for."""
    return int(item.input["args"][0])


def _ended(client: DBOSClient, name: str) -> list[Any]:
    found = client.list_workflows(name=name, status="SUCCESS", sort_desc=True, limit=LOOKED_AT)
    return [item for item in found if isinstance(item.output, dict)]


def _propose_steps(client: DBOSClient, item: Any) -> list[dict[str, Any]]:
    outputs = [step["output"] for step in client.list_workflow_steps(item.workflow_id)]
    return [output for output in outputs if isinstance(output, dict) and "stored" in output and "left" in output]


def _keep_newest(counts: dict[int, tuple[float, int]], project_id: int, at: float, number: int) -> None:
    if project_id not in counts or counts[project_id][0] < at:
        counts[project_id] = (at, number)
