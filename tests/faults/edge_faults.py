"""Faults of incoming events: webhooks lost, refused, doubled and out of order, and judgements changed."""

from __future__ import annotations

from typing import Any

from faults.annotators import Judged
from faults.stack import JUDGED_NOW, Stack


def webhooks_lost(stack: Stack) -> None:
    """The server is down while people judge; Label Studio never resends the webhooks."""
    project = stack.open_project("webhooks lost")
    for _ in range(2):
        stack.server.kill()
        stack.annotators.judge(project, JUDGED_NOW // 2)
        stack.server.start()
        stack.await_server()
    stack.close(project, {"webhooks lost while the backend is down": 2})


def webhooks_refused(stack: Stack) -> None:
    """Every webhook has a wrong secret, and is refused with 401."""
    project = stack.open_project("webhooks refused")
    stack.webhook_headers(project, {"X-Rankloop-Secret": "wrong"})
    stack.annotators.judge(project, JUDGED_NOW)
    stack.close(project, {"webhook refused with 401": JUDGED_NOW})


def webhooks_doubled(stack: Stack) -> None:
    """Each webhook arrives four times, and those about changes and deletions before the ones about creation."""
    project = stack.open_project("webhooks doubled")
    for _ in range(JUDGED_NOW - 1):
        task = project.open_tasks[0]
        for annotation in stack.annotators.judge(project, 1):
            for _ in range(3):
                stack.send(_news("ANNOTATION_CREATED", project, task, annotation))
    task, later = project.open_tasks[0], max(project.preferred) + 1
    stack.send(_news("ANNOTATION_UPDATED", project, task, later))
    stack.send({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": later}], "project": {"id": project.id}})
    stack.annotators.judge(project, 1)
    stack.send(_news("ANNOTATION_UPDATED", project, task, later))
    stack.close(project, {"webhook delivered four times": JUDGED_NOW - 1, "webhooks out of order": 3})


def minds_changed(stack: Stack) -> None:
    """Judgements are flipped and deleted before the cycle counts, and others take their place."""
    project = stack.open_project("minds changed")
    first = stack.annotators.judge(project, JUDGED_NOW - 1)
    for annotation in first[:2]:
        stack.annotators.delete(project, annotation)
    for annotation in first[2:4]:
        stack.annotators.change(project, annotation)
    stack.annotators.judge(project, 3)
    stack.close(project, {"judgement changed": 2, "judgement deleted": 2})


def trained_at_every_save(stack: Stack) -> None:
    """Label Studio is set to start training on submission: START_TRAINING precedes every save."""
    project = stack.open_project("trained at every save")
    stack.annotators.switch(project, start_training_on_annotation_update=True)
    stack.annotators.judge(project, JUDGED_NOW)
    stack.close(project, {"START_TRAINING before every save": JUDGED_NOW})


def _news(action: str, project: Judged, task: int, annotation: int) -> dict[str, Any]:
    return {
        "action": action,
        "annotation": {"id": annotation, "task": task, "result": [], "was_cancelled": False},
        "task": {"id": task, "data": {}},
        "project": {"id": project.id},
    }
