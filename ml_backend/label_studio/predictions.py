"""Predictions: the answer pairs waiting in Label Studio for a verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import Prediction, Progress, Task, versions_of
from ml_backend.label_studio.session import BULK_TIMEOUT_S, PredictionRequest, again, once
from ml_backend.label_studio.tasks import BATCH, Tasks
from ml_backend.labels import annotations_in

STALE_GRACE_S = 1800.0
"""How long a superseded prediction is kept: somebody may have it on screen, and Label Studio refuses an annotation
whose `parent_prediction` was deleted."""
STALE_LIMIT = 500
"""The most stale predictions deleted in one call (0.07 s each); the next call deletes more."""

_FIELDS = ("id", "task", "model_version", "score", "result", "created_at")


class Predictions(Tasks):
    """Operations on predictions."""

    def predictions(self, project_id: int) -> list[Prediction]:
        """A project's predictions, oldest first: `id`, `task`, `model_version`, `score`, `result`, `created_at`."""
        found = self._call(
            f"list predictions of project {project_id}",
            lambda: self._sdk.predictions.list(project=project_id, request_options=again(BULK_TIMEOUT_S)),
        )
        rows = [{name: getattr(item, name, None) for name in _FIELDS} for item in found]
        return sorted(rows, key=lambda row: int(row["id"] or 0))

    def predictions_by_version(self, project_id: int) -> dict[str, int]:
        """The number of predictions of each version in the project."""
        return dict(Counter(str(row["model_version"]) for row in self.predictions(project_id)))

    def replace_predictions(
        self,
        project_id: int,
        predictions: Sequence[Mapping[str, Any]],
        on_progress: Progress | None = None,
        *,
        keep_stale_s: float = STALE_GRACE_S,
    ) -> int:
        """Store predictions in bulk, then delete those they supersede on tasks that are still open.

        Predictions for tasks that have since been labeled or skipped, or that already have one of the same version,
        are left out: a judged pair must stay as it was, and no pair may be shown twice.

        Args:
            project_id: the project.
            predictions: `{"task", "result", "model_version", "score"?}` each, all of one version.
            on_progress: called with the number stored and the total.
            keep_stale_s: see `drop_stale_predictions`.

        Returns:
            How many were stored.
        """
        if not predictions:
            return 0
        has = {task["id"]: versions_of(task) for task in self.open_tasks(project_id)}
        wanted = [
            _prediction_request(item)
            for item in predictions
            if item["task"] in has and item["model_version"] not in has[item["task"]]
        ]
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            self._call(
                f"import predictions into project {project_id}",
                partial(
                    self._sdk.projects.import_predictions,
                    project_id,
                    request=batch,
                    request_options=once(BULK_TIMEOUT_S),
                ),
            )
            if on_progress:
                on_progress(start + len(batch), len(wanted))
        self.drop_stale_predictions(project_id, str(predictions[0]["model_version"]), keep_s=keep_stale_s)
        return len(wanted)

    def drop_stale_predictions(
        self, project_id: int, version: str, *, keep_s: float = STALE_GRACE_S, limit: int = STALE_LIMIT
    ) -> int:
        """On open tasks that have a prediction of `version`, delete those of other versions.

        A prediction superseded less than `keep_s` seconds ago stays, because somebody may be looking at it, and
        submitting a judgement on a deleted prediction fails. Label Studio shows the newest one either way. Predictions
        of labeled or skipped tasks always stay, because annotations refer to them.

        Returns:
            How many were deleted: at most `limit`, so call it again from time to time.
        """
        open_ids = {task["id"] for task in self.open_tasks(project_id)}
        superseded = _superseded(
            [row for row in self.predictions(project_id) if row["task"] in open_ids],
            version,
            datetime.now(UTC) - timedelta(seconds=keep_s),
        )
        for prediction_id in superseded[:limit]:
            self._delete_prediction(prediction_id)
        return len(superseded[:limit])

    def export_tasks(self, project_id: int) -> list[Task]:
        """Every task that was labeled or skipped, with its annotations.

        Label Studio lists a task's predictions by id only; here each is `{"id", "model_version", "result", "score"}`,
        so that an annotation's `parent_prediction` can be looked up.
        """
        tasks = self._exported(project_id)
        if any(annotation.get("parent_prediction") for annotation in annotations_in(tasks)):
            by_task: defaultdict[int, list[Prediction]] = defaultdict(list)
            for row in self.predictions(project_id):
                kept = {name: row[name] for name in ("id", "model_version", "result", "score")}
                by_task[row["task"]].append(kept)
            for task in tasks:
                task["predictions"] = by_task[task["id"]]
        return tasks

    def _delete_prediction(self, prediction_id: int) -> None:
        try:
            self._call(
                f"delete prediction {prediction_id}",
                lambda: self._sdk.predictions.delete(prediction_id, request_options=again()),
            )
        except LabelStudioError as error:
            if error.status != 404:  # deleted by somebody else, or by an attempt whose response was lost
                raise


def _superseded(rows: Sequence[Prediction], version: str, before: datetime) -> list[int]:
    """Ids of predictions that one of `version` superseded before `before`: other versions, and its duplicates."""
    first: dict[int, Prediction] = {}
    for row in rows:
        if row["model_version"] == version:
            first.setdefault(row["task"], row)
    return [
        row["id"]
        for row in rows
        if (current := first.get(row["task"])) is not None
        and row["id"] != current["id"]
        and max(current["created_at"], row["created_at"]) < before
    ]


def _prediction_request(item: Mapping[str, Any]) -> PredictionRequest:
    fields: dict[str, Any] = {name: item[name] for name in ("task", "model_version")}
    if item.get("score") is not None:
        fields["score"] = float(item["score"])
    return PredictionRequest(result=[dict(region) for region in item["result"]], **fields)
