"""Label Studio's JSON export, read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from training.errors import DataError


def parse_export(body: str | bytes, source: str) -> list[dict[str, Any]]:
    """The tasks of a JSON export.

    Args:
        body: what the file holds, or the server sent.
        source: what it is called in errors.

    Raises:
        DataError: it is no list of tasks.
    """
    try:
        tasks = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source} is no JSON ({error})",
            expected='the export format "JSON"',
            remedy="Export again from Label Studio as JSON; a cut-off file is what a broken-off download leaves.",
        ) from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{source} is no export", got=tasks, expected="a list of tasks with their annotations")
    return tasks


def annotations_in(tasks: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    """Every annotation of exported tasks that is a JSON object."""
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, Mapping) else None
        for annotation in annotations if isinstance(annotations, list) else []:
            if isinstance(annotation, Mapping):
                yield annotation
