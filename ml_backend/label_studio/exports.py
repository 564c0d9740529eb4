"""What people judged: all of it for a training cycle, or how much of it is new."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import Task
from ml_backend.label_studio.session import BULK_TIMEOUT_S, TaskFilter, again, once, was_cut_off
from ml_backend.label_studio.tasks import LABELED, ONLY_SKIPPED, Tasks
from ml_backend.labels import annotations_in, filter_value, parse_export, read_moment
from training.errors import DataError

SNAPSHOT_POLL_S = 1.0
SNAPSHOT_TIMEOUT_S = 1800.0
_NESTED = (
    "result,was_cancelled,ground_truth,completed_by,lead_time,import_id,last_action,task,parent_prediction,"
    "parent_annotation,model_version,score"
)
"""`include` also filters nested objects, so annotations' and predictions' own fields are named as well."""
_EXPORTED = f"id,data,meta,project,inner_id,created_at,updated_at,annotations,predictions,{_NESTED}"

logger = logging.getLogger(__name__)


class Exports(Tasks):
    """Reading a project's annotations."""

    def export_tasks(self, project_id: int) -> list[Task]:
        """Every task that was labeled or skipped, with its annotations.

        Label Studio's export lists a task's predictions by id only; here each is `{"id", "model_version", "result",
        "score"}`, so that an annotation's `parent_prediction` can be looked up.

        A large project's export takes longer than some gateways wait. Then a snapshot is made, which doesn't keep a
        request waiting, and if that doesn't work either, tasks are read page by page.
        """
        tasks = self._exported(project_id)
        if any(annotation.get("parent_prediction") for annotation in annotations_in(tasks)):
            missing = {task["id"] for task in tasks if not _has_predictions(task)}
            by_task: dict[int, list[Any]] = {}
            rows = self._labeled(project_id, "id,predictions,model_version,result,score") if missing else []
            for row in rows:
                by_task[row["id"]] = row["predictions"] or []
            for task in tasks:
                found = by_task.get(task["id"]) or task.get("predictions") or []
                task["predictions"] = [_as_parent(item) for item in found if isinstance(item, Mapping)]
        return tasks

    def count_judgements_since(self, project_id: int, since: str | None) -> int:
        """How many judgements `judgements_since` finds."""
        return self.judgements_since(project_id, since)[0]

    def judgements_since(self, project_id: int, since: str | None) -> tuple[int, str | None]:
        """How many annotations, skips and empty ones aside, were created or changed after `since`.

        Both times are Label Studio's own, so it doesn't matter what this machine's clock says.

        Args:
            project_id: the project.
            since: an annotation's `updated_at`; None counts all.

        Returns:
            Their number, from `enough` on perhaps more; and when the newest of them was made or changed, as ISO 8601;
            None for none.
        """
        after = read_moment(since)
        changed = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
        filters = [*LABELED, {**changed, "value": filter_value(after)}] if after else LABELED
        count, newest = 0, after
        for task in self.each_task(project_id, "id,annotations,updated_at,was_cancelled,result", *filters):
            found = [a for a in annotations_in([task]) if a.get("result") and not a.get("was_cancelled")]
            moments = [read_moment(annotation.get("updated_at")) for annotation in found]
            new = [moment for moment in moments if after is None or (moment and moment > after)]
            count += len(new)
            newest = max(filter(None, [newest, *new]), default=None)
            if count >= self.enough:
                break
        return count, newest.isoformat() if newest and count else None

    def _exported(self, project_id: int) -> list[Task]:
        """Every task that was labeled or skipped, in the first way that isn't cut off."""
        ways = (self._at_once, self._by_snapshot)
        for way, following in zip(ways, ("a snapshot", "reading page by page"), strict=True):
            try:
                return way(project_id)
            except LabelStudioError as error:
                hosted = way == self._at_once and error.status == 404  # some editions offer only snapshots
                if not was_cut_off(error) and not hosted:
                    raise
                logger.warning("project %d: trying %s instead: %s", project_id, following, error)
        return list(self._labeled(project_id, _EXPORTED))

    def _at_once(self, project_id: int) -> list[Task]:
        return self._downloaded(
            f"export project {project_id}",
            f"the export of project {project_id} from {self.url}",
            lambda: self._sdk.projects.exports.download_sync(
                project_id, export_type="JSON", request_options=once(BULK_TIMEOUT_S)
            ),
        )

    def _by_snapshot(self, project_id: int) -> list[Task]:
        exports, title = self._sdk.projects.exports, f"rankloop {uuid.uuid4().hex}"
        snapshot = None
        try:
            snapshot = self._snapshot(project_id, title)
            return self._downloaded(
                f"download a snapshot of project {project_id}",
                f"the snapshot of project {project_id} from {self.url}",
                lambda: exports.download(
                    project_id, snapshot, export_type="JSON", request_options=again(BULK_TIMEOUT_S)
                ),
            )
        finally:
            if snapshot is not None:
                self._remove_snapshot(project_id, snapshot)

    def _snapshot(self, project_id: int, title: str) -> int:
        """Make a snapshot and wait until it is complete. Returns its id."""
        doing = f"make a snapshot of project {project_id}"
        exports = self._sdk.projects.exports
        try:
            self._call(
                doing,
                lambda: exports.create(
                    project_id,
                    title=title,
                    task_filter_options=TaskFilter(only_with_annotations=True),
                    request_options=once(BULK_TIMEOUT_S),
                ),
            )
        except LabelStudioError as error:
            if not was_cut_off(error):
                raise
            logger.info("the answer about the snapshot was cut off; it may be in the making: %s", error)
        until, pause = time.monotonic() + SNAPSHOT_TIMEOUT_S, threading.Event()
        while True:
            made = self._call(doing, lambda: exports.list(project_id, request_options=again()))
            ours = next((item for item in made if item.title == title), None)
            status = str(ours.status) if ours is not None else "missing"
            if ours is not None and ours.id is not None and status == "completed":
                return int(ours.id)
            if status in {"failed", "missing"} or time.monotonic() > until:
                raise LabelStudioError(f"Label Studio at {self.url} couldn't {doing}", got=status, status=500)
            pause.wait(SNAPSHOT_POLL_S)

    def _remove_snapshot(self, project_id: int, snapshot: int) -> None:
        try:
            self._call(
                f"delete snapshot {snapshot} of project {project_id}",
                lambda: self._sdk.projects.exports.delete(project_id, snapshot, request_options=again()),
            )
        except LabelStudioError as error:
            logger.warning("a snapshot stays behind in project %d: %s", project_id, error)

    def _downloaded(self, doing: str, source: str, chunks: Callable[[], Iterable[bytes]]) -> list[Task]:
        """The tasks of a download, which goes to disk first, so that it is in memory only once."""
        with tempfile.TemporaryFile() as file:

            def store() -> None:
                file.seek(0)
                file.truncate()
                file.writelines(chunks())

            self._call(doing, store)
            file.seek(0)
            try:
                return parse_export(file.read(), source)
            except DataError as error:
                cause = error.__cause__ or error  # a ValueError if the JSON ends too early
                raise LabelStudioError(error.what, got=error.got, expected=error.expected) from cause

    def _labeled(self, project_id: int, include: str) -> Iterator[Task]:
        """Tasks that were labeled, then those that were only skipped."""
        for filters in (LABELED, ONLY_SKIPPED):
            yield from self.each_task(project_id, include, *filters)


def _has_predictions(task: Task) -> bool:
    """Whether a task's predictions are there themselves, not only their ids; true if it has none."""
    return all(isinstance(item, Mapping) for item in task.get("predictions") or [])


def _as_parent(prediction: Mapping[str, Any]) -> dict[str, Any]:
    return {name: prediction.get(name) for name in ("id", "model_version", "result", "score")}
