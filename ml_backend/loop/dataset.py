"""Training data: annotations from Label Studio or an export file, converted to preferences.

A snapshot is tasks.json, label_config.xml and prompts.jsonl; it is converted to preferences.jsonl, demonstrations.jsonl
and summary.json.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ml_backend.label_studio import LabelStudio
from ml_backend.labels import (
    ConversionSummary,
    GroundTruth,
    LabelConfig,
    annotations_in,
    infer_label_config,
    judgements_from_export,
    parse_export,
    parse_label_config,
    read_moment,
)
from training.atomic import write_atomically
from training.data import (
    REFERENCE_KEYS,
    Demonstration,
    Preference,
    Prompt,
    PromptRecord,
    aggregate,
    dataset_digest,
    demonstrations_from,
    prompt_as_json,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_text,
    rewrites_from,
    write_demonstrations,
    write_preferences,
    write_prompts,
)
from training.errors import DataError

LARGEST_ARCHIVE = 2**30
"""How many bytes the files of a zip archive may unpack to."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The training data from annotated tasks, and a count of what became of each annotation."""

    preferences: list[Preference]
    demonstrations: list[Demonstration]
    summary: ConversionSummary


def dataset_from(
    tasks: Sequence[object],
    config: LabelConfig | None = None,
    project_id: int | None = None,
    ground_truth: GroundTruth = "vote",
) -> Dataset:
    """Convert annotated tasks to training data.

    A rewritten answer beats what it was written over: these preferences follow those that people's votes add up to.

    Args:
        tasks: tasks as exported.
        config: their labeling configuration; None reads them as far as names say what they are.
        project_id: recorded in the preferences; None takes it from the tasks.
        ground_truth: what becomes of annotations marked as ground truth.

    Raises:
        DataError: without a configuration, names don't say what is what.
    """
    if project_id is None:
        project_id = _project_of(tasks)
    known = config or infer_label_config(tasks)
    judgements, summary = judgements_from_export(tasks, known, project_id, ground_truth)
    preferences = [*aggregate(judgements), *rewrites_from(judgements)]
    return Dataset(preferences, demonstrations_from(judgements), summary)


def read_export_file(path: Path) -> list[Any]:
    """Read Label Studio's export: a file (JSON, JSON lines, JSON_MIN or CSV), a zip archive of some, or a folder.

    A folder may be a copy of a target storage, which holds an annotation a file. Of several files, one that can't be
    read is counted as an annotation that can't be.

    Raises:
        DataError: it can't be read, or holds no tasks.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
        return _rows_of({str(file): partial(read_text, file) for file in files if _is_text(file)}, path)
    if zipfile.is_zipfile(path):
        return _rows_of(_unpacked(path), path)
    return list(parse_export(read_text(path), str(path)))


def export_preferences(
    tasks: Sequence[object],
    out: Path,
    config: LabelConfig | None = None,
    project_id: int | None = None,
    ground_truth: GroundTruth = "vote",
) -> ConversionSummary:
    """Write the preferences of `dataset_from` as JSON lines, atomically; nothing if there are none.

    Returns:
        What became of each annotation.

    Raises:
        DataError: without a configuration, names don't say what is what; or `out` can't be written.
    """
    made = dataset_from(tasks, config, project_id, ground_truth)
    if not made.preferences:
        return made.summary
    try:
        write_preferences(out, made.preferences)
    except OSError as error:
        raise DataError(f"{out} can't be written", remedy=f"{error.strerror or error}.") from error
    return made.summary


def take_snapshots(label_studio: LabelStudio, projects: Sequence[int], folder: Path) -> dict[int, dict[str, Any]]:
    """Save what `take_snapshot` saves of each project of a line: of one in `folder`, of several each in a folder of its
    own, with all their prompts in `folder`.

    Returns:
        What `take_snapshot` returns, by project.
    """
    if len(projects) == 1:
        return {projects[0]: take_snapshot(label_studio, projects[0], folder)}
    taken = {number: take_snapshot(label_studio, number, _part(folder, number)) for number in projects}
    prompts = {
        json.dumps(prompt_as_json(record.prompt)): record
        for number in reversed(projects)
        for record in read_prompts(_part(folder, number) / "prompts.jsonl")
    }
    write_prompts(folder / "prompts.jsonl", list(prompts.values()))
    for number in projects:
        xml = (_part(folder, number) / "label_config.xml").read_text(encoding="utf-8")
        write_atomically(folder / f"label_config.{number}.xml", xml)
    return taken


def convert_snapshots(projects: Sequence[int], folder: Path, ground_truth: GroundTruth = "vote") -> dict[str, Any]:
    """Convert the snapshots of a line's projects to the files of `convert_snapshot` in `folder`. Returns its counts,
    over all projects.
    """
    if len(projects) == 1:
        return convert_snapshot(projects[0], folder, ground_truth)
    preferences: list[Preference] = []
    demonstrations: list[Demonstration] = []
    counts: dict[str, Any] = {}
    for number in projects:
        part = _part(folder, number)
        counts = _added(counts, convert_snapshot(number, part, ground_truth))
        preferences += read_preferences(part / "preferences.jsonl")
        demonstrations += read_demonstrations(part / "demonstrations.jsonl")
    write_preferences(folder / "preferences.jsonl", preferences)
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations)
    counts["dataset_digest"] = dataset_digest(preferences)
    write_atomically(folder / "summary.json", json.dumps(counts, indent=2) + "\n")
    return counts


def take_snapshot(label_studio: LabelStudio, project_id: int, folder: Path) -> dict[str, Any]:
    """Save a project's annotated tasks, prompts and labeling configuration in `folder`.

    Returns:
        `tasks`: the number of annotated tasks; `snapshot_at`: when the newest annotation was made or changed, or None.

    Raises:
        DataError: the labeling configuration can't be used, or no task has a prompt.
    """
    label_config = label_studio.project(project_id).label_config
    config = parse_label_config(label_config)
    annotated = label_studio.export_tasks(project_id)
    prompts = _prompts(label_studio.tasks(project_id), config)
    if not prompts:
        keys = " and ".join(str(field.key) for field in config.prompts)
        wanted = f"data with the key {keys}" if keys else "a Text that shows it: a policy needs something to answer"
        raise DataError(f"no task of project {project_id} has a prompt", expected=wanted)
    write_prompts(folder / "prompts.jsonl", prompts)
    write_atomically(folder / "label_config.xml", label_config)
    write_atomically(folder / "tasks.json", json.dumps(annotated, default=str))
    return {"tasks": len(annotated), "snapshot_at": _newest(annotated)}


def convert_snapshot(project_id: int, folder: Path, ground_truth: GroundTruth = "vote") -> dict[str, Any]:
    """Convert a snapshot to preferences and demonstrations.

    Returns:
        The counts of `ConversionSummary`, the number of `demonstrations`, and `dataset_digest`.
    """
    config = parse_label_config((folder / "label_config.xml").read_text(encoding="utf-8"))
    made = dataset_from(read_export_file(folder / "tasks.json"), config, project_id, ground_truth)
    write_preferences(folder / "preferences.jsonl", made.preferences)
    write_demonstrations(folder / "demonstrations.jsonl", made.demonstrations)
    digest = dataset_digest(made.preferences)
    counts = {**asdict(made.summary), "demonstrations": len(made.demonstrations), "dataset_digest": digest}
    write_atomically(folder / "summary.json", json.dumps(counts, indent=2) + "\n")
    return counts


def _part(folder: Path, project_id: int) -> Path:
    return folder / f"project-{project_id}"


def _added(counts: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Two sets of counts, added up; what isn't a number or a set of counts is taken from the second."""
    added: dict[str, Any] = {**counts, **more}
    for name in counts.keys() & more.keys():
        if isinstance(more[name], int):
            added[name] = counts[name] + more[name]
        elif isinstance(more[name], Mapping):
            added[name] = _added(counts[name], more[name])
    return added


def _prompts(tasks: Iterable[Mapping[str, Any]], config: LabelConfig) -> list[PromptRecord]:
    """Each distinct prompt of the project, with its reference answer if the data has one."""
    found: dict[Prompt, PromptRecord] = {}
    names = [name for name in REFERENCE_KEYS if name not in config.keys]
    for task in tasks:
        data = task.get("data")
        prompt = config.prompt_of(data)
        if prompt and isinstance(data, Mapping):
            references = (data.get(name) for name in names)
            reference = next((text for text in references if isinstance(text, str) and text.strip()), None)
            found.setdefault(prompt, PromptRecord(prompt, reference))
    return list(found.values())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _is_text(path: Path) -> bool:
    """Whether a file may be an export: target storage leaves endings away, and pictures may lie beside it."""
    return path.suffix.lower() in ("", ".json", ".jsonl", ".csv", ".tsv") or path.suffix[1:].isdecimal()


def _unpacked(path: Path) -> dict[str, Callable[[], str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not _is_hidden(Path(m.filename))]
            members = [member for member in members if _is_text(Path(member.filename))]
            if sum(member.file_size for member in members) > LARGEST_ARCHIVE:
                raise DataError(f"{path} unpacks to more than {LARGEST_ARCHIVE} bytes", remedy="Unpack it yourself.")
            texts = {member.filename: archive.read(member).decode("utf-8-sig", "replace") for member in members}
            return {name: partial(str, text) for name, text in texts.items()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{path} can't be unpacked ({error})", remedy="Unpack it yourself.") from error


def _rows_of(texts: Mapping[str, Callable[[], str]], source: Path) -> list[Any]:
    """The rows of all files; for a file that can't be read, its name, which is then counted as unreadable."""
    rows: list[Any] = []
    bad: list[str] = []
    for name, text_of in texts.items():
        try:
            rows += parse_export(text_of(), name)
        except DataError as error:
            logger.warning("left out: %s", error)
            bad.append(name)
    if not rows:
        raise DataError(f"{source} holds no export", got=bad[:3] or "no files", expected="JSON or CSV of Label Studio")
    return [*rows, *bad]


def _newest(tasks: Iterable[object]) -> str | None:
    """When the newest annotation was made or changed, as ISO 8601 in UTC."""
    moments = (read_moment(annotation.get("updated_at")) for annotation in annotations_in(tasks))
    newest = max(filter(None, moments), default=None)
    return newest.isoformat() if newest else None


def _project_of(tasks: Sequence[object]) -> int | None:
    """The project that all tasks name; None if they name several or none."""
    known = [task for task in tasks if isinstance(task, Mapping)]
    nested = [{**task, **task["task"]} if isinstance(task.get("task"), Mapping) else task for task in known]
    projects = {task["project"] if type(task.get("project")) is int else None for task in nested}
    return projects.pop() if len(projects) == 1 else None
