"""Reads Label Studio's exports: JSON, JSON_MIN, CSV, and what target storage holds, an annotation a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ml_backend.labels.fields import LabelConfig
from training.data import separator_of
from training.errors import DataError

_FLAT_MARKS = {"annotation_id", "annotator"}
_ABOUT_THE_ANNOTATION = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"),
    *("agreement", "ground_truth", "was_cancelled", "completed_by"),
}
_VALUE_KEYS = {"pairwise": "selected", "ranker": "ranker", "ratings": "rating", "choices": "choices", "live": "choices"}
_LONGEST_CELL = 2**31 - 1

Json = Mapping[str, Any]


def parse_export(body: str | bytes, source: str) -> list[dict[str, Any]]:
    """Parse the tasks (or annotations with their task, or rows) of an export.

    Args:
        body: the file's content, or the server's response: a JSON list, one JSON object, JSON lines, or CSV.
        source: what to call it in errors.

    Raises:
        DataError: it is none of these.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        text = body if isinstance(body, str) else body.decode("utf-8", "replace")
        rows = _json_lines(text) or _csv_rows(text)
        if rows is None:
            raise DataError(
                f"{source} isn't valid JSON ({error})",
                expected="an export from Label Studio, best in its format JSON",
                remedy="Export again from Label Studio as JSON; an interrupted download leaves a truncated file.",
            ) from error
        return rows
    rows = found if isinstance(found, list) else [found]
    if not all(isinstance(row, dict) for row in rows) or (isinstance(found, dict) and not _is_row(found)):
        raise DataError(f"{source} isn't an export", got=found, expected="a list of tasks with their annotations")
    return rows


def annotations_in(tasks: Iterable[object]) -> Iterator[Json]:
    """Every annotation of exported tasks that is a JSON object."""
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, Mapping) else None
        for annotation in annotations if isinstance(annotations, list) else []:
            if isinstance(annotation, Mapping):
                yield annotation


def as_tasks(rows: Iterable[object], config: LabelConfig | None) -> list[object]:
    """Rows of every form as tasks with annotations; anything else stays as it is.

    Args:
        rows: tasks, annotations with their task nested, or rows of JSON_MIN or CSV.
        config: which columns of a flat row hold results; without one, flat rows stay as they are.
    """
    return [_as_task(row, config) for row in rows]


def is_flat(row: object) -> bool:
    """Whether a row is one of JSON_MIN or CSV: data and results side by side."""
    return isinstance(row, Mapping) and not _is_nested(row) and bool(_FLAT_MARKS & set(row))


def columns_of(row: Json) -> dict[str, Any]:
    """The data and results of a flat row, without what describes the annotation."""
    return {name: value for name, value in row.items() if name not in _ABOUT_THE_ANNOTATION}


def cell_value(value: object) -> object:
    """A flat row's value: what a cell holds as JSON, or itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def result_value(value: object) -> object:
    """What a control's column holds: Label Studio wraps a single result in a list for some controls."""
    found = cell_value(value)
    return found[0] if isinstance(found, list) and len(found) == 1 and isinstance(found[0], Mapping) else found


def _is_nested(row: Json) -> bool:
    return not {"annotations", "data", "completions", "drafts"}.isdisjoint(row)


def _is_row(row: Json) -> bool:
    return _is_nested(row) or "result" in row or bool(_FLAT_MARKS & set(row))


def _as_task(row: object, config: LabelConfig | None) -> object:
    if not isinstance(row, Mapping):
        return row
    task = row.get("task")
    if "result" in row and "annotations" not in row and (isinstance(task, Mapping) or not _is_nested(row)):
        known = dict(task) if isinstance(task, Mapping) else {"id": task}
        annotation = {name: value for name, value in row.items() if name != "task"}
        return {"project": row.get("project"), **known, "annotations": [annotation]}
    return _from_flat(row, config) if config is not None and is_flat(row) else row


def _from_flat(row: Json, config: LabelConfig) -> Json:
    """A task with one annotation, whose regions are rebuilt from the columns that the config's tags fill."""
    controls = {name: _VALUE_KEYS[config.kind] for name in (config.control, config.other_rating) if name}
    controls |= dict.fromkeys(config.beside, "choices")
    controls |= {answer.name: "text" for answer in config.answers if config.kind == "live"}
    regions = [
        {"from_name": name, "value": _region_value(row[name], what)}
        for name, what in controls.items()
        if row.get(name) not in (None, "")
    ]
    lists = {field.key for field in config.prompts if field.form == "messages"}
    lists |= {answer.key for answer in config.answers if config.kind == "ranker" or answer.form == "messages"}
    annotation = {
        "id": _whole(row.get("annotation_id")),
        "completed_by": row.get("annotator") or row.get("completed_by"),
        "updated_at": row.get("updated_at"),
        "created_at": row.get("created_at"),
        "ground_truth": row.get("ground_truth") in (True, "True", "true"),
        "result": regions,
    }
    data = {name: cell_value(value) if name in lists else value for name, value in row.items()}
    return {"id": _whole(row.get("id")), "data": data, "annotations": [annotation]}


def _region_value(value: object, what: str) -> Json:
    """A region's value as the JSON export has it: JSON_MIN keeps only what is inside."""
    value = result_value(value) if what != "text" else _texts(value)
    if isinstance(value, Mapping) and what in value:
        return value
    if what in ("choices", "text") and not isinstance(value, list):
        return {what: [str(value) if what == "choices" and isinstance(value, int) else value]}
    return {what: _number(value) if what == "rating" else value}


def _texts(value: object) -> object:
    """A TextArea's texts: several stand as a list, which CSV holds as JSON."""
    found = cell_value(value)
    several = isinstance(found, list) and len(found) > 1 and all(isinstance(text, str) for text in found)
    return found if several or isinstance(found, Mapping) else value


def _number(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 19 else value


def _json_lines(text: str) -> list[dict[str, Any]] | None:
    """The objects of JSON lines; a line that is none is kept as it is, and counted later. None if most are none."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or not lines[0].lstrip().startswith("{"):
        return None
    found: list[Any] = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            found.append(line)
    objects = [row for row in found if isinstance(row, dict) and _is_row(row)]
    return found if 2 * len(objects) > len(found) else None


def _csv_rows(text: str) -> list[dict[str, Any]] | None:
    """The rows of a CSV or TSV export; None if its header isn't one of Label Studio's."""
    csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=separator_of(text)))
    except csv.Error:
        return None
    if not rows or not _FLAT_MARKS & {name.strip() for name in rows[0] if name}:
        return None
    return [{name: value for name, value in row.items() if name is not None} for row in rows]


def read_moment(value: object) -> datetime | None:
    """A datetime or ISO 8601 string as a UTC time; UTC is assumed without a time zone. None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def filter_value(moment: datetime) -> str:
    """Format a time in the only way that Label Studio's filters accept."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
