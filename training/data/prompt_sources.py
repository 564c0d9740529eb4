"""Prompts to label, from a text, JSON lines or CSV file, or from a dataset on the Hugging Face hub."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from training.data.hub import tables_of
from training.data.records import ENDINGS, REFERENCE_KEYS, Record, read_records
from training.errors import DataError

Row = dict[str, Any]
"""A task's data."""

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where prompts come from.

    Attributes:
        name: a .txt (one prompt per line), .jsonl or .csv file, or the name of a dataset.
        field: the column that holds the prompt.
        split: the split of a dataset.
        limit: the maximum number, drawn at random since files are often sorted. The draw is the same every time, and
            a larger limit only adds to it.
    """

    name: str
    field: str = "prompt"
    split: str = "train"
    limit: int | None = None


def read_rows(source: PromptSource, prompt_key: str, other_keys: Sequence[str] = ()) -> list[Row]:
    """Read prompts as task data.

    Args:
        source: where to read them.
        prompt_key: the prompt's key in a task's data, from the label config.
        other_keys: other keys the label config shows (the answers of a pairwise config); also required.

    Returns:
        Rows with the prompt, the other keys, and `reference` where the source has a reference answer.

    Raises:
        DataError: the source can't be read, or a row lacks a key; names the file and line.
    """
    path = Path(source.name).expanduser()
    is_text = path.suffix.lower() in ENDINGS
    records = list(read_records(path, source.field)) if is_text else _dataset(source)
    rows = [_row(record, source.field, prompt_key, other_keys) for record in _draw(records, source.limit)]
    if not rows:
        raise DataError(f"{source.name} contains no prompts", expected="at least one")
    return rows


def _dataset(source: PromptSource) -> list[Record]:
    table: Sequence[Any] = next(iter(tables_of(source.name, source.split)), [])
    chosen = _draw(range(len(table)), source.limit)
    return [Record(Path(source.name), number + 1, table[number]) for number in chosen]


def _draw(things: Sequence[Thing], limit: int | None) -> list[Thing]:
    if limit is None or limit >= len(things):
        return list(things)
    order = list(range(len(things)))
    random.Random(0).shuffle(order)  # noqa: S311  # a fair sample, not a secret
    return [things[number] for number in order[:limit]]


def _row(record: Record, field: str, prompt_key: str, other_keys: Sequence[str]) -> Row:
    row: Row = {prompt_key: record.text(field)}
    for key in other_keys:
        if not record.has(key):
            raise record.fault(f'no "{key}", which the label config shows', got=sorted(record.fields))
        row[key] = record.fields[key]
    reference = record.optional_text(*REFERENCE_KEYS)
    if reference is not None:
        row["reference"] = reference
    return row
