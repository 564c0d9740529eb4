"""Reads Label Studio's JSON exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from training.errors import DataError


def parse_export(body: str | bytes, source: str) -> list[dict[str, Any]]:
    """Parse the tasks of a JSON export.

    Args:
        body: the file's content, or the server's response.
        source: what to call it in errors.

    Raises:
        DataError: it isn't a JSON list of tasks.
    """
    try:
        tasks = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source} isn't valid JSON ({error})",
            expected='the export format "JSON"',
            remedy="Export again from Label Studio as JSON; an interrupted download leaves a truncated file.",
        ) from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{source} isn't an export", got=tasks, expected="a list of tasks with their annotations")
    return tasks


def annotations_in(tasks: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    """Every annotation of exported tasks that is a JSON object."""
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, Mapping) else None
        for annotation in annotations if isinstance(annotations, list) else []:
            if isinstance(annotation, Mapping):
                yield annotation
