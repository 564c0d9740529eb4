"""Tasks and the annotations people make on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import Progress, Task, versions_of
from ml_backend.label_studio.session import BULK_TIMEOUT_S, ImportApiRequest, Session, again, once
from ml_backend.labels import annotations_in, filter_value, parse_export, read_moment
from training.errors import DataError

BATCH = 500
PAGE = 1000

_UNLABELED = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}
_UNSKIPPED = {"filter": "filter:tasks:cancelled_annotations", "operator": "equal", "type": "Number", "value": 0}
_LABELED = {"filter": "filter:tasks:total_annotations", "operator": "greater", "type": "Number", "value": 0}


class Tasks(Session):
    """Operations on tasks and annotations."""

    def import_tasks(
        self, project_id: int, rows: Sequence[Mapping[str, Any]], on_progress: Progress | None = None
    ) -> list[int]:
        """Add tasks and return their ids.

        Args:
            project_id: the project to add them to.
            rows: for each task its data (`{"prompt": ...}`), or `{"data": {...}, "predictions": [...]}`.
            on_progress: called with the number imported and the total.
        """
        ids: list[int] = []
        for start in range(0, len(rows), BATCH):
            request = [_import_request(row) for row in rows[start : start + BATCH]]
            made = self._call(
                f"import tasks into project {project_id}",
                partial(
                    self._sdk.projects.import_tasks,
                    project_id,
                    request=request,
                    return_task_ids=True,
                    request_options=once(BULK_TIMEOUT_S),
                ),
            )
            ids += getattr(made, "task_ids", None) or []  # the SDK's type has only the counts
            if on_progress:
                on_progress(len(ids), len(rows))
        return ids

    def tasks(self, project_id: int, include: str = "id,data", *filters: Mapping[str, Any]) -> list[Task]:
        """A project's tasks that pass all Data Manager `filters`, by id, with the fields named in `include`."""
        query: dict[str, Any] = {"ordering": ["tasks:id"]}
        if filters:
            query["filters"] = {"conjunction": "and", "items": list(filters)}
        found: list[Any] = self._call(
            f"list tasks of project {project_id}",
            lambda: list(
                self._sdk.tasks.list(
                    project=project_id,
                    fields="all",
                    include=include,
                    query=json.dumps(query),
                    page_size=PAGE,
                    request_options=again(BULK_TIMEOUT_S),
                )
            ),
        )
        wanted = include.split(",")
        return [{name: value for name, value in task.model_dump().items() if name in wanted} for task in found]

    def open_tasks(self, project_id: int, *, predictions: bool = False) -> list[Task]:
        """Tasks nobody has labeled or skipped, oldest first.

        Each has `id`, `data`, `predictions_model_versions` and, on request, `predictions` with their results.
        """
        extra = ",predictions,model_version,result" if predictions else ""
        return self.tasks(project_id, "id,data,predictions_model_versions" + extra, _UNLABELED, _UNSKIPPED)

    def tasks_to_propose(self, project_id: int, version: str) -> list[Task]:
        """Tasks (`id`, `data`) that nobody has labeled or skipped and that have no prediction of `version`."""
        return [
            {"id": task["id"], "data": task["data"]}
            for task in self.open_tasks(project_id)
            if version not in versions_of(task)
        ]

    def _exported(self, project_id: int) -> list[Task]:
        """Label Studio's own JSON export of every task that was labeled or skipped."""
        body = self._call(
            f"export project {project_id}",
            lambda: b"".join(
                self._sdk.projects.exports.download_sync(
                    project_id, export_type="JSON", request_options=again(BULK_TIMEOUT_S)
                )
            ),
        )
        try:
            return parse_export(body, f"the export of project {project_id} from {self.url}")
        except DataError as error:
            raise LabelStudioError(error.what, got=error.got, expected=error.expected) from error

    def count_judgements_since(self, project_id: int, since: str | None) -> int:
        """How many judgements `judgements_since` finds."""
        return self.judgements_since(project_id, since)[0]

    def judgements_since(self, project_id: int, since: str | None) -> tuple[int, str | None]:
        """How many annotations, skips and empty ones aside, were created or changed after `since`.

        Args:
            project_id: the project.
            since: an ISO time such as an annotation's `updated_at`; None counts all.

        Returns:
            Their number, and when the newest was made or changed, by Label Studio's clock, as ISO 8601; None for none.
        """
        filters: list[Mapping[str, Any]] = [_LABELED]
        after = read_moment(since)
        if after:
            since_then = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
            filters.append({**since_then, "value": filter_value(after)})
        # `include` also filters nested objects, so the annotations' own fields are named here as well
        tasks = self.tasks(project_id, "id,annotations,updated_at,was_cancelled,result", *filters)
        found = [a for a in annotations_in(tasks) if a.get("result") and not a.get("was_cancelled")]
        moments = [read_moment(annotation.get("updated_at")) for annotation in found]
        new = [moment for moment in moments if after is None or (moment and moment > after)]
        newest = max(filter(None, new), default=None)
        return len(new), newest.isoformat() if newest else None

    def annotate(
        self,
        task_id: int,
        result: Sequence[Mapping[str, Any]],
        *,
        lead_time: float | None = None,
        was_cancelled: bool = False,
        parent_prediction: int | None = None,
    ) -> int:
        """Submit an annotation as the key's owner. Returns its id.

        Args:
            task_id: the task that was judged.
            result: regions in Label Studio's result format.
            lead_time: seconds the judgement took.
            was_cancelled: a skip instead of a judgement.
            parent_prediction: the prediction it started from.
        """
        given = {"lead_time": lead_time, "parent_prediction": parent_prediction}
        fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        made: Any = self._call(
            f"annotate task {task_id}",
            lambda: self._sdk.annotations.create(
                task_id,
                result=[dict(region) for region in result],
                was_cancelled=was_cancelled,
                request_options=once(),
                **fields,
            ),
        )
        if made.id is None:
            raise LabelStudioError("Label Studio created an annotation without an id", got=task_id)
        return int(made.id)

    def skip(self, task_id: int, *, lead_time: float | None = None, parent_prediction: int | None = None) -> int:
        """Skip a task as an annotator who presses Skip would. Returns the annotation's id."""
        return self.annotate(task_id, [], lead_time=lead_time, was_cancelled=True, parent_prediction=parent_prediction)


def _import_request(row: Mapping[str, Any]) -> ImportApiRequest:
    return ImportApiRequest(**row) if isinstance(row.get("data"), dict) else ImportApiRequest(data=dict(row))
