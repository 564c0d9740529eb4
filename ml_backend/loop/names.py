"""Names that client and worker share in DBOS. A job queued under one name can't be found under another."""

from __future__ import annotations

from typing import Any

from ml_backend.lines import own_line

APPLICATION = "rankloop"
APPLICATION_VERSION = "3"
"""Fixed, so that a restarted worker recognises its unfinished work. Raise it when the order of a workflow's steps
changes, or what one of them returns: a worker ends unfinished work of older versions at its start, and reconciliation
starts anew what is due."""
EXECUTOR = "rankloop-worker"

TRAINING_CYCLE = "training_cycle"
CONSIDER_TRAINING = "consider_training"
PROPOSE_MISSING = "propose_missing"
RECONCILE = "reconcile"
HEAR_PEOPLE = "hear_people"

TRAINING_QUEUE = "training"
PROPOSALS_QUEUE = "proposals"
DECISIONS_QUEUE = "decisions"
OPINIONS_QUEUE = "opinions"
QUEUES = (TRAINING_QUEUE, PROPOSALS_QUEUE, DECISIONS_QUEUE, OPINIONS_QUEUE)
"""Each queue runs one job at a time."""

STEP_EVENT = "step"
"""The event with which a training cycle reports its current step."""

ASKED, FORCED, JUDGEMENTS = "asked", "forced", "judgements"
"""What triggered a cycle: a person, a person who overrides a pause, or enough new judgements."""

WORKER_LOCK = "worker.lock"
"""In the data folder; held by the running worker."""

WAITING = ("DELAYED", "ENQUEUED")
UNFINISHED = (*WAITING, "PENDING")


def cycle_options(project_id: int, line: str | None, workflow_id: str) -> dict[str, Any]:
    """The options for enqueueing a training cycle: one per line at a time, or per project if its line isn't known."""
    return {
        "workflow_name": TRAINING_CYCLE,
        "queue_name": TRAINING_QUEUE,
        "workflow_id": workflow_id,
        "deduplication_id": f"{TRAINING_CYCLE}-{line or own_line(project_id)}",
        "app_version": APPLICATION_VERSION,
    }


def options(workflow_name: str, queue_name: str, delay_s: float | None = None) -> dict[str, Any]:
    """The options for enqueueing any other workflow."""
    given = {"workflow_name": workflow_name, "queue_name": queue_name, "app_version": APPLICATION_VERSION}
    return given if delay_s is None else {**given, "delay_seconds": delay_s}
