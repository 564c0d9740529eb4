"""Names that client and worker share in DBOS. A job queued under one name can't be found under another."""

from __future__ import annotations

from typing import Any

APPLICATION = "rankloop"
APPLICATION_VERSION = "1"
"""Fixed, so that a restarted worker recognises its unfinished work. Raise it when the order of a workflow's steps
changes: unfinished work then waits for a worker of its own version."""
EXECUTOR = "rankloop-worker"

TRAINING_CYCLE = "training_cycle"
CONSIDER_TRAINING = "consider_training"
PROPOSE_MISSING = "propose_missing"
RECONCILE = "reconcile"

TRAINING_QUEUE = "training"
PROPOSALS_QUEUE = "proposals"
DECISIONS_QUEUE = "decisions"
QUEUES = (TRAINING_QUEUE, PROPOSALS_QUEUE, DECISIONS_QUEUE)
"""Each queue runs one job at a time."""

STEP_EVENT = "step"
"""The event with which a training cycle reports its current step."""

WORKER_LOCK = "worker.lock"
"""In the data folder; held by the running worker."""

WAITING = ("DELAYED", "ENQUEUED")
UNFINISHED = (*WAITING, "PENDING")


def cycle_options(project_id: int, workflow_id: str) -> dict[str, Any]:
    """The options for enqueueing a training cycle: one per project at a time."""
    return {
        "workflow_name": TRAINING_CYCLE,
        "queue_name": TRAINING_QUEUE,
        "workflow_id": workflow_id,
        "deduplication_id": f"{TRAINING_CYCLE}-{project_id}",
        "app_version": APPLICATION_VERSION,
    }


def options(workflow_name: str, queue_name: str, delay_s: float | None = None) -> dict[str, Any]:
    """The options for enqueueing any other workflow."""
    given = {"workflow_name": workflow_name, "queue_name": queue_name, "app_version": APPLICATION_VERSION}
    return given if delay_s is None else {**given, "delay_seconds": delay_s}
