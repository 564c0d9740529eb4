"""Converts Label Studio's annotations to judgements: each is counted, and nothing unknown is read as a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ml_backend.labels.annotations import annotator_of, judgements_in
from ml_backend.labels.export import as_tasks, read_moment
from ml_backend.labels.fields import LabelConfig
from ml_backend.labels.verdicts import Dropped, Loss
from training.data import Judgement, Verdict, aggregate, rewrites_from

GroundTruth = Literal["vote", "only", "ignore"]
"""What becomes of annotations marked as ground truth: votes like any other, the only ones that count, or left out."""
DIFFERENT_VALUES = 20
"""How many different unknown verdicts are counted each by its value."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ConversionSummary:
    """What became of each annotation: `annotations == kept + skipped + sum(dropped.values())`.

    `ties`, `edited` and `ground_truth` are part of `kept`. `preferences` counts the pairs that the kept judgements add
    up to, `rewrites` the preferences for what people rewrote. `unknown_verdicts` counts the first few values that are
    no verdict. `drafts` and `completions` (Label Studio 0.x) are not annotations, and are never read.
    """

    annotations: int = 0
    kept: int = 0
    ties: int = 0
    skipped: int = 0
    edited: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    preferences: int = 0
    rewrites: int = 0
    ground_truth: int = 0
    unknown_verdicts: Mapping[str, int] = field(default_factory=dict)
    drafts: int = 0
    completions: int = 0

    def nothing_found(self) -> str | None:
        """In words why there is no preference, and what to do; None if there is one."""
        if self.preferences or self.rewrites:
            return None
        if self.annotations:
            why = [f"{count} {reason}" for reason, count in self.dropped.items()]
            skipped = [f"{self.skipped} skipped"] if self.skipped else []
            values = ", ".join(repr(value) for value in self.unknown_verdicts)
            said = f" Unknown verdicts: {values}." if values else ""
            return f"None of the {self.annotations} annotations can be used: {', '.join([*skipped, *why])}.{said}"
        if self.drafts:
            return f"There are {self.drafts} drafts and no annotation: nobody has submitted them yet. Press Submit."
        if self.completions:
            return (
                f"There are {self.completions} completions, the form of Label Studio 0.x: "
                "import the file into a current Label Studio, and export it from there as JSON."
            )
        return "Nobody has judged anything yet: there are no annotations."


def judgements_from_export(
    tasks: Iterable[object],
    config: LabelConfig,
    project_id: int | None = None,
    ground_truth: GroundTruth = "vote",
) -> tuple[list[Judgement], ConversionSummary]:
    """Convert annotated tasks from an export or the tasks API.

    An annotation that can't be used is dropped with a reason, see `Dropped`: for instance `superseded` (the same person
    judged the same task again; the newest counts) or `rejected_in_review` (the newest review decides). A ranking gives
    one judgement per pair of its answers.

    Args:
        tasks: tasks with their annotations, or annotations with their task, or rows of JSON_MIN or CSV; predictions, if
            present, tell which version wrote which answer.
        config: which tags hold prompt, answers and verdict.
        project_id: recorded in the judgements.
        ground_truth: what becomes of annotations marked as ground truth.
    """
    rows = as_tasks(tasks, config)
    found = [entry for position, task in enumerate(rows) for entry in _entries(task, position)]
    newest = {entry.who: entry for entry in sorted(found, key=lambda entry: entry.age) if entry.counts(ground_truth)}
    outcomes = [_outcome(entry, config, project_id, newest, ground_truth) for entry in found]
    kept = [(entry, made) for entry, made in zip(found, outcomes, strict=True) if isinstance(made, list) and made]
    losses = [outcome for outcome in outcomes if isinstance(outcome, Loss)]
    judgements = [judgement for _, made in kept for judgement in made]
    values = Counter(loss.value for loss in losses if loss.value is not None)
    return judgements, ConversionSummary(
        annotations=len(found),
        kept=len(kept),
        ties=sum(made[0].verdict is Verdict.TIE for _, made in kept),
        skipped=outcomes.count([]),
        edited=sum(any(one.answer1.edited or one.answer2.edited for one in made) for _, made in kept),
        dropped=dict(sorted(Counter(loss.reason.value for loss in losses).items())),
        preferences=len(aggregate(judgements)),
        rewrites=len(rewrites_from(judgements)),
        ground_truth=sum(entry.is_ground_truth for entry, _ in kept),
        unknown_verdicts=dict(sorted(values.most_common(DIFFERENT_VALUES))),
        drafts=_listed(rows, "drafts"),
        completions=_listed(rows, "completions"),
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

    @property
    def is_ground_truth(self) -> bool:
        """Whether it is marked as ground truth."""
        return (self.annotation or {}).get("ground_truth") is True

    def counts(self, ground_truth: GroundTruth) -> bool:
        """Whether the setting lets it count."""
        return ground_truth == "vote" or self.is_ground_truth == (ground_truth == "only")


def _entries(task: object, position: int) -> list[_Entry]:
    if not isinstance(task, Mapping):
        return [_Entry({})]
    annotations = task.get("annotations")
    if annotations is None:
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
    entry: _Entry,
    config: LabelConfig,
    project_id: int | None,
    newest: Mapping[Hashable, _Entry],
    ground_truth: GroundTruth,
) -> list[Judgement] | Loss:
    """An annotation's judgements, the reason it has none, or an empty list if it was skipped."""
    if entry.annotation is None:
        return Loss(Dropped.UNREADABLE)
    if not entry.counts(ground_truth):
        return Loss(Dropped.GROUND_TRUTH if entry.is_ground_truth else Dropped.NOT_GROUND_TRUTH)
    if entry.who is not None and newest[entry.who] is not entry:
        return Loss(Dropped.SUPERSEDED)
    if entry.annotation.get("was_cancelled"):
        return []
    if _was_rejected(entry.annotation):
        return Loss(Dropped.REJECTED_IN_REVIEW)
    return judgements_in(entry.annotation, entry.task, config, project_id)


def _was_rejected(annotation: Mapping[str, Any]) -> bool:
    """Whether the newest review rejects it; without reviews, whether the last action did."""
    found = annotation.get("reviews")
    reviews = [review for review in found if isinstance(review, Mapping)] if isinstance(found, list) else []
    decided = [review for review in reviews if isinstance(review.get("accepted"), bool)]
    if not decided:
        return annotation.get("last_action") == "rejected"
    return max(enumerate(decided), key=_review_age)[1]["accepted"] is False


def _review_age(numbered: tuple[int, Mapping[str, Any]]) -> tuple[datetime, int, int]:
    place, review = numbered
    number = review.get("id")
    when = read_moment(review.get("updated_at")) or read_moment(review.get("created_at")) or _LONG_AGO
    return when, number if isinstance(number, int) else 0, place


def _listed(tasks: Iterable[object], name: str) -> int:
    """How many entries the tasks' lists of that name have."""
    lists = (task.get(name) for task in tasks if isinstance(task, Mapping))
    return sum(len(found) for found in lists if isinstance(found, list))
