"""Converts Label Studio's annotations to judgements: each is counted, and nothing unknown is read as a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ml_backend.labels.annotations import Dropped, annotator_of, judgements_in
from ml_backend.labels.config import LabelConfig
from ml_backend.labels.moments import read_moment
from training.data import Judgement, Verdict, aggregate
from training.errors import DataError

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ConversionSummary:
    """What became of each annotation: `annotations == kept + skipped + sum(dropped.values())`.

    `ties` and `edited` are part of `kept`. `preferences` counts the pairs that the kept judgements add up to.
    """

    annotations: int = 0
    kept: int = 0
    ties: int = 0
    skipped: int = 0
    edited: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    preferences: int = 0


def judgements_from_export(
    tasks: Iterable[object], config: LabelConfig, project_id: int | None = None
) -> tuple[list[Judgement], ConversionSummary]:
    """Convert annotated tasks from a JSON export or the tasks API.

    An annotation that can't be used is dropped with a reason: `empty`, `both_bad`, `unknown_verdict`,
    `missing_answer`, `identical_answers`, `missing_prompt`, `superseded` (the same person judged the same task again;
    the newest counts) or `unreadable`. A ranking gives one judgement per pair of its answers.

    Args:
        tasks: tasks with their annotations; predictions, if present, tell which version wrote which answer.
        config: which tags hold prompt, answers and verdict.
        project_id: recorded in the judgements.

    Raises:
        DataError: the tasks are a JSON_MIN export, which lacks what is needed.
    """
    found = [entry for position, task in enumerate(tasks) for entry in _entries(task, position)]
    newest = {entry.who: entry for entry in sorted(found, key=lambda entry: entry.age)}
    outcomes = [_outcome(entry, config, project_id, newest) for entry in found]
    kept = [outcome for outcome in outcomes if outcome and not isinstance(outcome, Dropped)]
    dropped = Counter(outcome.value for outcome in outcomes if isinstance(outcome, Dropped))
    judgements = [judgement for outcome in kept for judgement in outcome]
    return judgements, ConversionSummary(
        annotations=len(found),
        kept=len(kept),
        ties=sum(outcome[0].verdict is Verdict.TIE for outcome in kept),
        skipped=outcomes.count([]),
        edited=sum(any(made.answer1.edited or made.answer2.edited for made in outcome) for outcome in kept),
        dropped=dict(sorted(dropped.items())),
        preferences=len(aggregate(judgements)),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One annotation of an export; `annotation` is None if it isn't a JSON object."""

    task: Mapping[str, Any]
    annotation: Mapping[str, Any] | None = None
    who: Hashable = None  # task and annotator, if both are known

    @property
    def age(self) -> tuple[datetime, int]:
        """Sort key for one person's annotations of one task; the greatest is the newest."""
        annotation = self.annotation or {}
        number = annotation.get("id")
        when = read_moment(annotation.get("updated_at")) or read_moment(annotation.get("created_at")) or _LONG_AGO
        return when, number if isinstance(number, int) else 0


def _entries(task: object, position: int) -> list[_Entry]:
    if not isinstance(task, Mapping):
        return [_Entry({})]
    annotations = task.get("annotations")
    if annotations is None:
        if "data" not in task and {"annotation_id", "annotator"} & set(task):
            raise DataError(
                "this is a JSON_MIN export, which lacks the answers that were shown, the skips and the versions",
                got=sorted(map(str, task)),
                expected='the export format "JSON"',
                remedy="Export again from Label Studio as JSON.",
            )
        return []
    if not isinstance(annotations, list):
        return [_Entry(task)]
    return [_entry(task, annotation, position) for annotation in annotations]


def _entry(task: Mapping[str, Any], annotation: object, position: int) -> _Entry:
    if not isinstance(annotation, Mapping):
        return _Entry(task)
    annotator = annotator_of(annotation)
    number = task.get("id")
    place = ("task", number) if isinstance(number, int | str) else ("position", position)
    return _Entry(task, annotation, (place, annotator) if annotator else None)


def _outcome(
    entry: _Entry, config: LabelConfig, project_id: int | None, newest: Mapping[Hashable, _Entry]
) -> list[Judgement] | Dropped:
    """An annotation's judgements, the reason it has none, or an empty list if it was skipped."""
    if entry.annotation is None:
        return Dropped.UNREADABLE
    if entry.who is not None and newest[entry.who] is not entry:
        return Dropped.SUPERSEDED
    if entry.annotation.get("was_cancelled"):
        return []
    return judgements_in(entry.annotation, entry.task, config, project_id)
