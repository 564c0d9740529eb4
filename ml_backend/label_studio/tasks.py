"""Tasks and the annotations people make on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import Progress, Task, versions_of
from ml_backend.label_studio.session import BULK_TIMEOUT_S, ImportApiRequest, Session, again, once
from ml_backend.labels import filter_value, read_moment

BATCH = 500
PAGE = 1000
_STANDING = "id,predictions_model_versions,draft_exists"


def count_filter(field: str, operator: str) -> Mapping[str, Any]:
    """A Data Manager filter that compares one of a task's counts with 0."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": "Number", "value": 0}


OPEN = (count_filter("total_annotations", "equal"), count_filter("cancelled_annotations", "equal"))
"""Tasks that nobody has labeled or skipped."""
LABELED = (count_filter("total_annotations", "greater"),)
ONLY_SKIPPED = (count_filter("total_annotations", "equal"), count_filter("cancelled_annotations", "greater"))


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

    def each_task(
        self, project_id: int, include: str = "id,data", *filters: Mapping[str, Any], page_size: int = PAGE
    ) -> Iterator[Task]:
        """A project's tasks that pass all Data Manager `filters`, by id, with the fields named in `include`.

        They are read page by page, as the caller takes them. Each page begins after the last id of the one before, so
        that a task that is labeled meanwhile moves no other one out of sight.
        """
        wanted = include.split(",")
        after: list[Mapping[str, Any]] = []
        while True:
            query = {"ordering": ["tasks:id"], "filters": {"conjunction": "and", "items": [*filters, *after]}}
            page: Any = self._call(
                f"list tasks of project {project_id}",
                partial(
                    self._sdk.tasks.list,
                    project=project_id,
                    fields="all",
                    include=include,
                    query=json.dumps(query),
                    page=1,
                    page_size=page_size,
                    request_options=again(BULK_TIMEOUT_S),
                ),
            )
            rows = page.items or []
            for task in rows:
                yield {name: value for name, value in task.model_dump().items() if name in wanted}
            if not rows or len(rows) >= (page.response.total or 0):
                return
            after = [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": rows[-1].id}]

    def tasks(self, project_id: int, include: str = "id,data", *filters: Mapping[str, Any]) -> list[Task]:
        """The same as `each_task`, all at once."""
        return list(self.each_task(project_id, include, *filters))

    def open_tasks(self, project_id: int, *, predictions: bool = False) -> list[Task]:
        """Tasks nobody has labeled or skipped, oldest first.

        Each has `id`, `data`, `predictions_model_versions` and, on request, `predictions` with their results.
        """
        extra = ",predictions,model_version,result" if predictions else ""
        return self.tasks(project_id, "id,data,predictions_model_versions" + extra, *OPEN)

    def tasks_to_propose(self, project_id: int, version: str) -> list[Task]:
        """Among the first `look_ahead` open tasks, those (`id`, `data`, `meta`) that have no prediction of `version`.

        Tasks after those get their proposals when somebody opens them, or when enough before them are done. A task with
        a draft keeps what its annotator sees.
        """
        return [
            {"id": task["id"], "data": task["data"], "meta": task.get("meta")}
            for task in self._first_open(project_id, f"data,meta,{_STANDING}", self.look_ahead)
            if _lacks(task, version)
        ]

    def proposed_tasks(self, project_id: int, version: str) -> list[Task]:
        """Among the first `look_ahead` open tasks without a draft, those that have predictions of `version`: `id`,
        `data`, `meta`, and as `predictions` only these.
        """
        found = []
        for task in self._first_open(project_id, f"data,meta,predictions,{_STANDING},result", self.look_ahead):
            listed = [item for item in task.get("predictions") or [] if isinstance(item, Mapping)]
            ours = [item for item in listed if item.get("model_version") == version]
            if ours and not task.get("draft_exists"):
                found.append({"id": task["id"], "data": task["data"], "meta": task.get("meta"), "predictions": ours})
        return found

    def judged_tasks(self, project_id: int, since: str | None) -> Iterator[Task]:
        """Tasks with a judgement that changed after `since` (ISO 8601; None for all), by id: `id`, `data`, `meta`,
        `is_labeled`, `updated_at` and `annotations`.
        """
        after = read_moment(since)
        changed = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
        filters = [*LABELED, {**changed, "value": filter_value(after)}] if after else LABELED
        include = "id,data,meta,is_labeled,updated_at,annotations,result,was_cancelled"
        return self.each_task(project_id, include, *filters)

    def tasks_after(self, project_id: int, last: int) -> Iterator[Task]:
        """The tasks (`id`, `meta`) whose id is greater than `last`, by id."""
        later = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": last}
        return self.each_task(project_id, "id,meta", *([later] if last else []))

    def open_tasks_up_to(self, project_id: int, most: int) -> int:
        """How many tasks nobody has labeled or skipped; counting ends at `most`."""
        return sum(1 for _ in self._first_open(project_id, "id", most))

    def runs_low(self, project_id: int, version: str) -> bool:
        """Whether a task without a prediction of `version` is in the first half of the look-ahead.

        So it is filled up in one go, when half of it is used, instead of after each judgement.
        """
        half = (self.look_ahead + 1) // 2
        return any(_lacks(task, version) for task in self._first_open(project_id, _STANDING, half))

    def _first_open(self, project_id: int, include: str, number: int) -> Iterator[Task]:
        return islice(self.each_task(project_id, include, *OPEN, page_size=min(number, PAGE)), number)

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


def _lacks(task: Task, version: str) -> bool:
    """Whether an open task needs a prediction of a version."""
    return version not in versions_of(task) and not task.get("draft_exists")


def _import_request(row: Mapping[str, Any]) -> ImportApiRequest:
    return ImportApiRequest(**row) if isinstance(row.get("data"), dict) else ImportApiRequest(data=dict(row))
