"""Preferences out of Label Studio's annotations: from an export file, or from tasks fetched from the server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ml_backend.labels.config import LabelConfig
from ml_backend.labels.infer import infer_label_config
from ml_backend.labels.judgements import ConversionSummary, judgements_from_export
from training.data.votes import aggregate, write_preferences
from training.errors import DataError


def read_export_file(path: Path) -> list[object]:
    """Read a JSON export of Label Studio.

    Raises:
        DataError: the file can't be read, or is no list of tasks.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} can't be read", remedy=f"{error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text", got=error.object[error.start : error.end]) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no JSON ({error})",
            expected='the export format "JSON"',
            remedy="Export again from Label Studio as JSON; a cut-off file is what a broken-off download leaves.",
        ) from error
    if not isinstance(tasks, list):
        raise DataError(f"{path} is no export", got=tasks, expected="a list of tasks with their annotations")
    return tasks


def export_preferences(
    tasks: Sequence[object], out: Path, config: LabelConfig | None = None, project_id: int | None = None
) -> ConversionSummary:
    """Convert annotated tasks and write the preferences as JSON lines; the file appears whole or not at all.

    Args:
        tasks: tasks as exported.
        out: where to write.
        config: their labeling configuration; None infers it from the results.
        project_id: noted in the preferences; None takes what the tasks say.

    Returns:
        What became of each annotation.

    Raises:
        DataError: the tasks are no full export, or `out` can't be written.
    """
    if project_id is None:
        project_id = _project_of(tasks)
    judgements, summary = judgements_from_export(tasks, config or infer_label_config(tasks), project_id)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_preferences(out, aggregate(judgements))
    except OSError as error:
        raise DataError(f"{out} can't be written", remedy=f"{error.strerror or error}.") from error
    return summary


def _project_of(tasks: Sequence[object]) -> int | None:
    """The project that all tasks name; None where they name several or none."""
    projects = [task.get("project") for task in tasks if isinstance(task, dict)]
    first = projects[0] if projects else None
    known = isinstance(first, int) and not isinstance(first, bool)
    return first if known and all(project == first for project in projects) else None
