"""Label Studio's events, mapped to jobs that count judgements, propose answers, or train."""

from __future__ import annotations

from typing import Any

from ml_backend.http.messages import WebhookRequest
from ml_backend.http.projects import KnownProjects
from ml_backend.lines import not_connected
from ml_backend.loop import Jobs
from training.errors import DataError

JUDGEMENT_ACTIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"}
TASK_ACTIONS = {"TASKS_CREATED", "PROJECT_UPDATED"}
"""New tasks need proposals, and so may those of a project whose label config has changed."""
COUNTED = (
    "Label Studio is set to start training on every submission, so this counts as one more judgement: a cycle starts "
    "by itself once there are enough new ones. `rankloop status` says how many are missing; "
    "`rankloop train --project {}` starts one now."
)


def pass_on(event: WebhookRequest, jobs: Jobs, projects: KnownProjects | None = None) -> dict[str, Any]:
    """Enqueue the job that an event calls for; the worker runs it later.

    Args:
        event: the event.
        jobs: enqueues jobs.
        projects: what is known of the projects. An event of one that isn't connected starts nothing; the worker, which
            asks Label Studio, has the last word, and `rankloop status` says so.

    Returns:
        The answer; see `WebhookAnswer`.

    Raises:
        DataError: training is requested, but the payload names no project.
        JobsError: the job queue can't be reached.
        OverloadError: the job queue hangs.
    """
    project_id, action = event.project_id, event.action
    if action == "START_TRAINING":
        if project_id is None:
            raise DataError("START_TRAINING came without a project", expected="project.id in the payload")
        if _is_foreign(project_id, projects):
            return {"job": None, "status": "refused", "message": not_connected(project_id)}
        if event.sent_at_every_save:
            jobs.judgement_arrived(project_id)
            return {"job": None, "status": "queued", "message": COUNTED.format(project_id)}
        return jobs.start_training(project_id, projects.line_of(project_id) if projects else None)
    if action not in JUDGEMENT_ACTIONS and action not in TASK_ACTIONS:
        return {"status": "ignored", "message": f"{action} needs no action here"}
    if project_id is None:
        message = "the webhook sends no payload, so its project is unknown; the scheduled reconciliation will find it"
        return {"status": "ignored", "message": message}
    return _pass_on_change(action, project_id, jobs, projects)


def _pass_on_change(action: str, project_id: int, jobs: Jobs, projects: KnownProjects | None) -> dict[str, Any]:
    """Have new judgements counted and new tasks proposed for."""
    if _is_foreign(project_id, projects):
        if action in JUDGEMENT_ACTIONS:  # nobody reads the answer to a webhook, but people do read the status
            jobs.judgement_arrived(project_id)
        return {"status": "ignored", "message": not_connected(project_id)}
    if action in TASK_ACTIONS:
        jobs.propose(project_id)
    if action == "PROJECT_UPDATED":
        return {"status": "queued"}
    # Importing annotated tasks sends only TASKS_CREATED.
    jobs.judgement_arrived(project_id)
    return {"status": "queued"}


def _is_foreign(project_id: int, projects: KnownProjects | None) -> bool:
    return projects is not None and projects.is_connected(project_id) is False
