"""Prompts to label, from a text, JSON lines or CSV file, or from a dataset on the Hugging Face hub."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from training.data.files import AS_DEFAULT, CONVERSATIONS, prompt_in
from training.data.hub import tables_of
from training.data.prompts import Prompt, messages_key, prompt_as_json, prompt_in_words
from training.data.records import LeftOut, Reading, Record, usable
from training.data.tables import ENDINGS, read_records
from training.errors import DataError

Row = dict[str, Any]
"""A task's data."""

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where prompts come from.

    Attributes:
        name: a .txt (one prompt per line), .csv, .tsv, .jsonl or .json file, or the name of a dataset.
        field: the column that holds the prompt; None for the one that the label config shows, else `prompt`.
        split: the split of a dataset.
        limit: the maximum number, drawn at random since files are often sorted. The draw is the same every time, and
            a larger limit only adds to it.
        reading: how a file is read.
    """

    name: str
    field: str | None = None
    split: str = "train"
    limit: int | None = None
    reading: Reading = AS_DEFAULT


def read_rows(
    source: PromptSource, prompt_key: str | None, other_keys: Sequence[str] = (), left_out: LeftOut | None = None
) -> list[Row]:
    """Read prompts as task data.

    Args:
        source: where to read them.
        prompt_key: the prompt's key in a task's data, from the label config; None if it isn't a single one.
        other_keys: other keys the label config shows (the answers of a pairwise config); also required.
        left_out: receives the rows that can't be used; without it they are logged.

    Returns:
        Rows with the prompt, the other keys, and `reference` where the source has a reference answer. Of a
        conversation the rows hold both the words and, under `messages_key`, the messages.

    Raises:
        DataError: the source can't be read, or no row has all keys; names the file and line.
    """
    path = Path(source.name).expanduser()
    is_text = path.suffix.lower() in ENDINGS
    plain = source.field or prompt_key or "prompt"
    records = list(read_records(path, plain, source.reading)) if is_text else _dataset(source)

    def make(record: Record) -> Row:
        return _row(record, source, prompt_key, other_keys)

    rows = usable(_draw(records, source.limit), make, source.reading, left_out)
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


def _row(record: Record, source: PromptSource, prompt_key: str | None, other_keys: Sequence[str]) -> Row:
    row: Row = {}
    if prompt_key is not None:
        prompt = _prompt(record, source.field, prompt_key)
        row[prompt_key] = prompt_in_words(prompt)
        if not isinstance(prompt, str) and [message.role for message in prompt] != ["user"]:
            row[messages_key(prompt_key)] = prompt_as_json(prompt)
    for key in other_keys:
        if not record.has(key):
            raise record.fault(f'no "{key}", which the label config shows', got=sorted(map(str, record.fields)))
        row[key] = record.value(key)
    reference = record.reference(source.reading)
    if reference is not None and "reference" not in row:
        row["reference"] = reference
    return row


def _prompt(record: Record, field: str | None, prompt_key: str) -> Prompt:
    """The prompt in the field that was named, else in the one that the label config shows, else in `prompt`."""
    names = [field] if field else [prompt_key, "prompt"]
    name = next((name for name in names if record.has(name)), names[-1])
    if field is None and not record.has(name) and not any(record.has(column) for column in CONVERSATIONS):
        raise record.fault(
            f'no "{prompt_key}"',
            got=sorted(map(str, record.fields)),
            expected=f'text in "{prompt_key}"',
            remedy="Name the column that holds the prompt with --prompt-field.",
        )
    return prompt_in(record, name) if field is None else record.prompt(name)
