"""The files that training reads and writes: preferences, prompts, demonstrations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from training.atomic import write_atomically
from training.data.records import REFERENCE_KEYS, Record, read_json_lines, read_records
from training.data.types import Demonstration, Preference, PreferenceSource, PromptRecord
from training.errors import DataError


def read_preferences(path: Path | str) -> list[Preference]:
    """Read JSON lines in TRL's standard preference format; our extra fields (`p_chosen`, `votes`, ...) are optional.

    Raises:
        DataError: a line can't be used; names the file and line, the value and what was expected.
    """
    return [_preference_from(record) for record in read_json_lines(Path(path))]


def write_preferences(path: Path | str, preferences: Iterable[Preference]) -> None:
    """Write JSON lines that `read_preferences` and TRL can read, atomically."""
    _write_rows(path, map(asdict, preferences))


def read_prompts(path: Path | str) -> list[PromptRecord]:
    """Read prompts from a .txt (one per line), .csv (a `prompt` column) or .jsonl file.

    CSV and JSON lines may include a reference answer as `reference` or `label`.

    Raises:
        DataError: an unknown file type, no prompts, or a line that can't be used; names the file and line.
    """
    records = read_records(Path(path), "prompt")
    prompts = [PromptRecord(r.prompt("prompt"), r.optional_text(*REFERENCE_KEYS)) for r in records]
    if not prompts:
        raise DataError(f"{path} contains no prompts", expected="at least one")
    return prompts


def write_prompts(path: Path | str, prompts: Iterable[PromptRecord]) -> None:
    """Write JSON lines that `read_prompts` can read, atomically."""
    rows = map(asdict, prompts)
    _write_rows(path, ({name: text for name, text in row.items() if text is not None} for row in rows))


def read_demonstrations(path: Path | str) -> list[Demonstration]:
    """Read JSON lines of `prompt` and `answer` (or `label`, or `completion`).

    Raises:
        DataError: a line can't be used; names the file and line, the value and what was expected.
    """
    records = read_json_lines(Path(path))
    return [Demonstration(r.prompt("prompt"), r.text("answer", "label", "completion")) for r in records]


def write_demonstrations(path: Path | str, demonstrations: Iterable[Demonstration]) -> None:
    """Write JSON lines that `read_demonstrations` can read, atomically."""
    _write_rows(path, map(asdict, demonstrations))


def _preference_from(record: Record) -> Preference:
    prompt, chosen, rejected = record.prompt("prompt"), record.text("chosen"), record.text("rejected")
    if chosen == rejected:
        raise record.fault('"chosen" and "rejected" are the same text', got=chosen, expected="two different answers")
    source = record.nested("source")
    return Preference(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=record.number("p_chosen", default=1.0, low=0.5, high=1.0),
        votes=record.whole_number("votes", default=1, low=1) or 1,
        annotators=tuple(record.list_of("annotators", str)),
        source=PreferenceSource(
            project_id=source.whole_number("project_id", default=None),
            task_id=source.whole_number("task_id", default=None),
            annotation_ids=tuple(source.list_of("annotation_ids", int)),
            chosen_version=source.optional_text("chosen_version"),
            rejected_version=source.optional_text("rejected_version"),
        ),
    )


def _write_rows(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    write_atomically(Path(path), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
