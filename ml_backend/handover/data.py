"""A line's judgements and prompts, or those that a version learned from, as a folder that other tools read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ml_backend.errors import RegistryError
from ml_backend.handover.rows import Form, LineData, Row, Table, own_rows, tables
from ml_backend.handover.target import new_folder
from ml_backend.label_studio import LabelStudio
from ml_backend.lines import Connections
from ml_backend.loop import convert_snapshots, take_snapshots
from ml_backend.registry import Registry, Version, VersionRecord, read_record
from ml_backend.settings import Settings
from training.data import (
    PromptRecord,
    read_demonstrations,
    read_preferences,
    read_prompts,
    save_dataset,
)
from training.errors import DataError

if TYPE_CHECKING:
    from training.models import TextCodec

To = Literal["trl", "datasets", "jsonl"]
OpenLabelStudio = Callable[[], AbstractContextManager[LabelStudio]]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: of which line or version, in which form, how many rows by kind and split, how many ties not."""

    name: str
    form: str
    counts: Mapping[str, Mapping[str, int]]
    ties: int = 0


def export_line(
    settings: Settings,
    registry: Registry,
    open_label_studio: OpenLabelStudio,
    name: str | None,
    out: Path,
    *,
    to: To,
    form: Form | None = None,
    force: bool = False,
) -> Exported:
    """Write preferences, demonstrations and prompts, in the parts (train, selection, test) that the line uses.

    Args:
        settings: the configuration.
        registry: the versions.
        open_label_studio: opens a connection to Label Studio, which is asked for a line's judgements.
        name: a line, whose judgements are fetched now; or a version, whose training data are stored with it. None is
            the only line.
        out: the new folder.
        to: `trl` (JSON lines that its trainers read), `datasets` (what `load_from_disk` reads), or `jsonl` (rankloop's
            own form, with everything).
        form: texts or messages, for the first two; None is messages if the model has a chat template.
        force: whether a folder that isn't empty is replaced.

    Raises:
        RegistryError: there is no such line or version.
        DataError: no project is on the line, or there is nothing to write.
        ConfigError: the folder isn't empty, or can't be written.
    """
    name = name or registry.only_line()
    is_line = name in registry.lines()
    version = registry.current(name) if is_line else _version(registry, name)
    with new_folder(out, force=force, keep=settings.home()) as fresh:
        data = _of_line(settings, registry, open_label_studio, name) if is_line else _of_version(registry, version)
        if to == "jsonl":
            return Exported(name, "rankloop's own form", _write_own(fresh, data))
        codec = _codec(settings, registry, version)
        chosen: Form = form or ("standard" if codec.chat is None else "conversational")
        made = tables(data, codec, chosen, more=to == "datasets")
        _write_tables(fresh, made, to)
        _describe(fresh, name, made, chosen, to)
        return Exported(name, f"{chosen} form", {table.name: table.counts() for table in made}, made[0].ties)


def _version(registry: Registry, name: str) -> Version:
    try:
        return registry.get(name)
    except RegistryError as error:
        lines = ", ".join(registry.lines())
        raise RegistryError(
            "there is no such line or version", got=name, expected=f"one of the lines {lines}, or a version's name"
        ) from error


def _of_line(settings: Settings, registry: Registry, open_label_studio: OpenLabelStudio, line: str) -> LineData:
    """What a line would train on now."""
    connected = Connections(settings, registry, open_label_studio).all()
    projects = [each.project_id for each in connected if each.line == line]
    if not projects:
        raise DataError(
            "no connected project is on this line, so there are no judgements to fetch",
            got=line,
            remedy="Connect one with `rankloop init-project --line`, or name a version to get what it learned from.",
        )
    with tempfile.TemporaryDirectory(dir=settings.home(), prefix=".export.") as made, open_label_studio() as opened:
        folder = Path(made)
        take_snapshots(opened, projects, folder)
        convert_snapshots(projects, folder, settings.ground_truth)
        return LineData(
            read_preferences(folder / "preferences.jsonl"),
            read_demonstrations(folder / "demonstrations.jsonl"),
            read_prompts(folder / "prompts.jsonl"),
        )


def _of_version(registry: Registry, version: Version) -> LineData:
    """What a version learned from, and the prompts of it. Versions from before have no demonstrations with them."""
    stored = {name: registry.read(version, f"{name}.jsonl") for name in ("preferences", "demonstrations")}
    if stored["preferences"] is None:
        raise DataError("this version learned from no judgements", got=version.name, remedy="Name its line instead.")
    with tempfile.TemporaryDirectory() as made:
        for name, content in stored.items():
            (Path(made) / f"{name}.jsonl").write_bytes(content or b"")
        preferences = read_preferences(Path(made) / "preferences.jsonl")
        demonstrations = read_demonstrations(Path(made) / "demonstrations.jsonl")
    prompts = dict.fromkeys(item.prompt for item in preferences)
    return LineData(preferences, demonstrations, [PromptRecord(prompt) for prompt in prompts])


def _codec(settings: Settings, registry: Registry, version: Version) -> TextCodec:
    """How the version reads. The tokenizer is the base's, which is there even if the version's weights are pruned."""
    from training.models import TextCodec  # imports PyTorch

    base = registry.fetch(registry.base(version.line))
    own = registry.read(version, "version.json")
    record = VersionRecord.model_validate_json(own) if own else read_record(base, settings.cycle_config)
    return TextCodec.load(str(base / "policy"), record.text)


def _write_own(folder: Path, data: LineData) -> dict[str, dict[str, int]]:
    counts = {}
    for name, rows in own_rows(data).items():
        _write_lines(folder / f"{name}.jsonl", rows)
        splits = [row["split"] for row in rows]
        counts[name] = {split: splits.count(split) for split in ("train", "selection", "test")}
    return counts


def _write_tables(folder: Path, made: Sequence[Table], to: To) -> None:
    for table in made:
        splits = {split: rows for split, rows in table.splits.items() if rows}  # an empty file can't be loaded
        if to == "datasets" and splits:
            save_dataset(folder / table.name, splits, table.columns)
        elif to == "trl":
            for split, rows in splits.items():
                _write_lines(folder / table.name / f"{split}.jsonl", rows)


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _describe(folder: Path, name: str, made: Sequence[Table], form: Form, to: To) -> None:
    """Write a dataset card, by whose metadata `datasets.load_dataset` finds the files."""
    head, rows = [], []
    for table in made:
        files = [split for split, there in table.splits.items() if there]
        rows += [f"| {table.name} | {split} | {len(there)} |" for split, there in table.splits.items()]
        if files:
            head += [f"- config_name: {table.name}", "  data_files:"]
            head += [f"  - split: {split}\n    path: {table.name}/{split}.jsonl" for split in files]
    load = f'load_from_disk("{made[0].name}")' if to == "datasets" else f'load_dataset(".", "{made[0].name}")'
    card = [
        *(["---", "license: unknown", "configs:", *head, "---", ""] if head and to == "trl" else []),
        f"# Judgements of {name}",
        "",
        f"In TRL's {form} form, by rankloop. Load it with `datasets.{load}`.",
        f"{made[0].ties} pairs on which the votes are tied are left out.",
        "",
        "| what | split | rows |",
        "|---|---|---|",
        *rows,
        "",
        "A prompt belongs to one split for life. `test` teaches no model, and `selection` no policy.",
    ]
    (folder / "README.md").write_text("\n".join(card) + "\n", encoding="utf-8")
