"""Label Studio's annotations to judgements: every annotation counted, nothing unknown ever read as a verdict.

With `label_config` (which tags mean what) and `label_predictions` (what the backend proposes) this is all of
Label Studio's JSON that the rest of the program knows. Pure: no network, no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ml_backend.labels.annotations import Dropped, annotator_of, judgements_in
from ml_backend.labels.config import Field, LabelConfig, ListedAnswer, parse_label_config
from ml_backend.labels.predictions import live_prediction, pairwise_prediction, ranker_prediction
from training.data.types import Judgement, Verdict
from training.data.votes import aggregate
from training.errors import DataError

__all__ = [
    "ConversionSummary",
    "LabelConfig",
    "ListedAnswer",
    "config_for_export",
    "judgements_from_export",
    "live_prediction",
    "pairwise_prediction",
    "parse_label_config",
    "ranker_prediction",
]

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ConversionSummary:
    """What became of each annotation: `annotations == kept + skipped + sum(dropped.values())`.

    `ties` and `edited` are among the kept. `preferences` counts the pairs that the kept judgements come to.
    """

    annotations: int = 0
    kept: int = 0
    ties: int = 0
    skipped: int = 0
    edited: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    preferences: int = 0

    def as_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        return asdict(self)


def judgements_from_export(
    tasks: Iterable[object], config: LabelConfig, project_id: int | None = None
) -> tuple[list[Judgement], ConversionSummary]:
    """Convert annotated tasks, as a JSON export or the tasks API gives them.

    An annotation that can't be used is dropped with a reason: `empty`, `both_bad`, `unknown_verdict`,
    `missing_answer`, `identical_answers`, `missing_prompt`, `superseded` (the same person judged the same task again;
    the newest counts) or `unreadable`. A ranking gives one judgement per two of its answers.

    Args:
        tasks: tasks with their annotations; predictions, where they are given, tell which version wrote what.
        config: which tags hold prompt, answers and verdict.
        project_id: noted in the judgements.

    Raises:
        DataError: the tasks are a JSON_MIN export, which lacks what is needed.
    """
    found = [entry for position, task in enumerate(tasks) for entry in _entries(task, position)]
    newest = _newest(found)
    judgements: list[Judgement] = []
    kept = ties = skipped = edited = 0
    dropped: Counter[str] = Counter()
    for entry in found:
        outcome = _outcome(entry, config, project_id, newest)
        if isinstance(outcome, Dropped):
            dropped[outcome.value] += 1
        elif not outcome:
            skipped += 1
        else:
            judgements += outcome
            kept += 1
            ties += outcome[0].verdict is Verdict.TIE
            edited += any(judgement.answer1.edited or judgement.answer2.edited for judgement in outcome)
    reasons = dict(sorted(dropped.items()))
    pairs = len(aggregate(judgements))
    return judgements, ConversionSummary(len(found), kept, ties, skipped, edited, reasons, pairs)


def config_for_export(tasks: Sequence[object]) -> LabelConfig:
    """The config of this project's own label_config.xml, pairwise.xml or ranker.xml, whichever an export's results fit.

    For exports that come without their labeling configuration; it takes the names these files use.
    """
    kinds = Counter(_result_types(tasks))
    prompt = Field("prompt", "prompt")
    if kinds["pairwise"] > kinds["textarea"]:
        answers = (Field("answer1", "answer1"), Field("answer2", "answer2"))
        return LabelConfig("pairwise", prompt, "comparison", answers, {})
    if kinds["ranker"] > kinds["textarea"]:
        return LabelConfig("ranker", prompt, "rank", (Field("answers", "items"),), {})
    verdicts = {verdict.value: verdict for verdict in Verdict}
    return LabelConfig("live", prompt, "verdict", (Field("answer1"), Field("answer2")), verdicts)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One annotation of an export; `annotation` is None where it is no JSON object."""

    task: Mapping[str, Any]
    annotation: Mapping[str, Any] | None = None
    who: Hashable = None  # task and annotator, where both are known

    @property
    def age(self) -> tuple[datetime, int]:
        """Orders the annotations of one person on one task; the greatest is the newest."""
        annotation = self.annotation or {}
        number = annotation.get("id")
        when = _time(annotation.get("updated_at")) or _time(annotation.get("created_at")) or _LONG_AGO
        return when, number if isinstance(number, int) else 0


def _entries(task: object, position: int) -> list[_Entry]:
    if not isinstance(task, Mapping):
        return [_Entry({})]
    annotations = task.get("annotations")
    if annotations is None and "data" not in task and {"annotation_id", "annotator"} & set(task):
        raise DataError(
            "this is a JSON_MIN export, which leaves out the answers that were shown, the skips and the versions",
            got=sorted(map(str, task)),
            expected='the export format "JSON"',
            remedy="Export again from Label Studio as JSON.",
        )
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


def _newest(entries: Iterable[_Entry]) -> dict[Hashable, _Entry]:
    newest: dict[Hashable, _Entry] = {}
    for entry in entries:
        if entry.who is not None and (entry.who not in newest or entry.age > newest[entry.who].age):
            newest[entry.who] = entry
    return newest


def _outcome(
    entry: _Entry, config: LabelConfig, project_id: int | None, newest: Mapping[Hashable, _Entry]
) -> list[Judgement] | Dropped:
    """An annotation's judgements, why it has none, or an empty list for one that was skipped."""
    if entry.annotation is None:
        return Dropped.UNREADABLE
    if entry.who is not None and newest[entry.who] is not entry:
        return Dropped.SUPERSEDED
    if entry.annotation.get("was_cancelled"):
        return []
    return judgements_in(entry.annotation, entry.task, config, project_id)


def _time(value: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when and when.tzinfo is None else when


def _result_types(tasks: Iterable[object]) -> Iterator[str]:
    """The type of every piece of every annotation's result."""
    for position, task in enumerate(tasks):
        for entry in _entries(task, position):
            result = entry.annotation.get("result") if entry.annotation else None
            for piece in result if isinstance(result, list) else []:
                if isinstance(piece, Mapping) and isinstance(piece.get("type"), str):
                    yield piece["type"]
