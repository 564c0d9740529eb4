"""What a training cycle learns from: a project's annotations as they are at one moment, and what they come to.

A snapshot is tasks.json, label_config.xml and prompts.jsonl; what it comes to is preferences.jsonl,
demonstrations.jsonl and summary.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.labels.config import LabelConfig, parse_label_config
from ml_backend.labels.judgements import judgements_from_export
from training.atomic import write_atomically
from training.data.types import PromptRecord
from training.data.votes import (
    aggregate,
    dataset_digest,
    demonstrations_from,
    write_demonstrations,
    write_preferences,
    write_prompts,
)
from training.errors import DataError

if TYPE_CHECKING:
    from ml_backend.label_studio import LabelStudio

_REFERENCES = ("reference", "label")  # names under which a task's data may bring an answer to measure against


def take_snapshot(label_studio: LabelStudio, project_id: int, folder: Path) -> dict[str, Any]:
    """Copy a project's annotated tasks, its prompts and its labeling configuration into `folder`.

    Returns:
        `tasks`: how many were annotated; `snapshot_at`: when the newest annotation was made or changed, None where
        there is none.

    Raises:
        DataError: the labeling configuration can't be used, or no task has a prompt.
    """
    label_config = label_studio.project(project_id).label_config
    config = parse_label_config(label_config)
    annotated = label_studio.export_tasks(project_id)
    prompts = _prompts(label_studio.tasks(project_id), config)
    if not prompts:
        raise DataError(
            f"no task of project {project_id} has a prompt", expected=f"data with the key {config.prompt.key}"
        )
    write_prompts(folder / "prompts.jsonl", prompts)
    write_atomically(folder / "label_config.xml", label_config)
    write_atomically(folder / "tasks.json", json.dumps(annotated, default=str))
    return {"tasks": len(annotated), "snapshot_at": _newest(annotated)}


def convert_snapshot(project_id: int, folder: Path) -> dict[str, Any]:
    """Turn a snapshot into preferences and demonstrations.

    Returns:
        The counts of `ConversionSummary`, `demonstrations` (how many), and `dataset_digest`.
    """
    config = parse_label_config((folder / "label_config.xml").read_text(encoding="utf-8"))
    tasks = json.loads((folder / "tasks.json").read_bytes())
    judgements, summary = judgements_from_export(tasks, config, project_id)
    preferences = aggregate(judgements)
    demonstrations = demonstrations_from(judgements)
    write_preferences(folder / "preferences.jsonl", preferences)
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations)
    counts = {**summary.as_json(), "demonstrations": len(demonstrations), "dataset_digest": dataset_digest(preferences)}
    write_atomically(folder / "summary.json", json.dumps(counts, indent=2) + "\n")
    return counts


def _prompts(tasks: Iterable[Mapping[str, Any]], config: LabelConfig) -> list[PromptRecord]:
    """Each different prompt of the project once, with its reference answer where the data brings one."""
    found: dict[str, PromptRecord] = {}
    for task in tasks:
        data = task.get("data")
        prompt = config.prompt_of(data)
        if prompt and isinstance(data, Mapping):
            references = (data.get(name) for name in _REFERENCES)
            reference = next((text for text in references if isinstance(text, str) and text.strip()), None)
            found.setdefault(prompt, PromptRecord(prompt, reference))
    return list(found.values())


def _newest(tasks: Sequence[Mapping[str, Any]]) -> str | None:
    """When the newest annotation was made or changed, as ISO 8601 in UTC."""
    found = (_moment(annotation.get("updated_at")) for task in tasks for annotation in task.get("annotations") or [])
    moments = [moment for moment in found if moment]
    return max(moments).isoformat() if moments else None


def _moment(value: object) -> datetime | None:
    """A time in UTC; None for what can't be read as one."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC) if moment else None
    except (ValueError, OverflowError):
        return None
