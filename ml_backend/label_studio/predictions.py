"""Predictions: the answer pairs waiting in Label Studio for a verdict."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.exports import Exports
from ml_backend.label_studio.records import Prediction, Progress, versions_of
from ml_backend.label_studio.session import BULK_TIMEOUT_S, PredictionRequest, again, once
from ml_backend.label_studio.tasks import BATCH, OPEN

MOST_REFUSALS = 64
"""How many refusals are put up with while finding which predictions of a batch Label Studio doesn't take."""

logger = logging.getLogger(__name__)

_FIELDS = ("id", "task", "model_version", "score", "result", "created_at")


class Predictions(Exports):
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
        self, project_id: int, predictions: Sequence[Mapping[str, Any]], on_progress: Progress | None = None
    ) -> int:
        """Store predictions in bulk, beside those they supersede.

        Predictions for tasks that have since been labeled or skipped, or that already have one of the same version,
        are left out: a judged pair must stay as it was, and no pair may be shown twice. One that Label Studio doesn't
        take is left out as well, and named in the log.

        Superseded ones stay. Somebody may have one on screen, for however long, and submitting a judgement whose
        `parent_prediction` is gone fails. The labeling page shows those of the version that serves.

        Args:
            project_id: the project.
            predictions: `{"task", "result", "model_version", "score"?}` each, all of one version.
            on_progress: called with the number stored and the total.

        Returns:
            How many were stored.
        """
        if not predictions:
            return 0
        version = str(predictions[0]["model_version"])
        wanted = self._without_one(project_id, version, predictions)
        stored, refused = 0, _Refused()
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            stored += self._store(project_id, version, batch, refused)
            if on_progress:
                on_progress(start + len(batch), len(wanted))
        if refused.tasks:
            some = ", ".join(map(str, sorted(refused.tasks)[:20]))
            logger.warning(
                "project %d: Label Studio doesn't take %d predictions of %s, those of tasks %s%s: %s",
                *(project_id, len(refused.tasks), version, some, " ..." if len(refused.tasks) > 20 else ""),
                refused.reason,
            )
        return stored

    def change_prediction(self, prediction_id: int, result: Sequence[Mapping[str, Any]], score: float | None) -> None:
        """Replace what a prediction says. Its id stays, so judgements that are being made from it can be submitted."""
        self._call(
            f"change prediction {prediction_id}",
            lambda: self._sdk.predictions.update(
                prediction_id,
                result=[dict(region) for region in result],
                request_options=again(),
                **({} if score is None else {"score": score}),
            ),
        )

    def _without_one(
        self, project_id: int, version: str, predictions: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Those whose task is still open and has no prediction of this version."""
        ids = [item["task"] for item in predictions]
        between = {"filter": "filter:tasks:id", "operator": "in", "type": "Number"}
        near = {**between, "value": {"min": min(ids), "max": max(ids)}}
        wanted = set(ids)
        missing = {
            task["id"]
            for task in self.each_task(project_id, "id,predictions_model_versions", *OPEN, near)
            if task["id"] in wanted and version not in versions_of(task)
        }
        return [item for item in predictions if item["task"] in missing]

    def _store(self, project_id: int, version: str, batch: Sequence[Mapping[str, Any]], refused: _Refused) -> int:
        """Store a batch; of one that is refused its halves, down to what is at fault. Returns how many were stored."""
        try:
            made = self._call(
                f"import predictions into project {project_id}",
                lambda: self._sdk.projects.import_predictions(
                    project_id,
                    request=[_prediction_request(item) for item in batch],
                    request_options=once(BULK_TIMEOUT_S),
                ),
            )
        except LabelStudioError as error:
            refused.count += 1
            if error.status not in {400, 422, 500} or refused.count > MOST_REFUSALS:
                raise
            if len(batch) == 1:
                refused.tasks.add(batch[0]["task"])
                refused.reason = str(error.got)[:300]
                return 0
            left = self._without_one(project_id, version, batch) if error.status == 500 else batch
            middle = (len(left) + 1) // 2
            halves = [half for half in (left[:middle], left[middle:]) if half]
            return len(batch) - len(left) + sum(self._store(project_id, version, half, refused) for half in halves)
        created = getattr(made, "created", None)
        if created is None or created >= len(batch):
            return len(batch)
        dropped = self._without_one(project_id, version, batch)  # it says how many it took, not which
        refused.tasks |= {item["task"] for item in dropped}
        refused.reason = refused.reason or "they don't fit the labeling configuration"
        return len(batch) - len(dropped)


@dataclass(slots=True)
class _Refused:
    """What Label Studio didn't take."""

    tasks: set[int] = field(default_factory=set)
    reason: str = ""
    count: int = 0


def _prediction_request(item: Mapping[str, Any]) -> PredictionRequest:
    fields: dict[str, Any] = {name: item[name] for name in ("task", "model_version")}
    if item.get("score") is not None:
        fields["score"] = float(item["score"])
    return PredictionRequest(result=[dict(region) for region in item["result"]], **fields)
