"""Text files of records (JSON lines, CSV, plain lines), read with errors that name file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from training.data.prompts import Prompt, prompt_from_json
from training.errors import DataError

REFERENCE_KEYS = ("reference", "label")
"""Names of the field with a reference answer, which a person wrote and rewards are measured against."""
ENDINGS = (".csv", ".jsonl", ".txt")
"""Endings of the files that `read_records` can read."""

Member = TypeVar("Member")


@dataclass(frozen=True, slots=True)
class Record:
    """One line's fields, with their file and line number for errors."""

    path: Path
    line: int
    fields: Mapping[str, object]

    def fault(
        self, what: str, *, got: object = None, expected: str | None = None, remedy: str | None = None
    ) -> DataError:
        """An error that begins with this record's file and line."""
        return DataError(f"{self.path}, line {self.line}: {what}", got=got, expected=expected, remedy=remedy)

    def has(self, name: str) -> bool:
        """Whether the field is present and isn't null."""
        return self.fields.get(name) is not None

    def text(self, *names: str) -> str:
        """The text of the first field among `names` that is present.

        Raises:
            DataError: none is present, or it isn't text, is blank, or contains a lone surrogate.
        """
        name = next((name for name in names if self.has(name)), None)
        wanted = " or ".join(f'"{name}"' for name in names)
        if name is None:
            raise self.fault(f"no {wanted}", got=sorted(self.fields), expected=f"text in {wanted}")
        value = self.fields[name]
        if not isinstance(value, str) or not value.strip():
            raise self.fault(f'"{name}" can\'t be used', got=value, expected="non-blank text")
        if not is_whole_unicode(value):
            raise self.fault(f'"{name}" contains a lone surrogate', got=value, expected="valid Unicode")
        return value

    def prompt(self, name: str) -> Prompt:
        """The prompt in a field: a text, or a list of messages.

        Raises:
            DataError: it is missing, blank, or neither.
        """
        if not isinstance(self.fields.get(name), list):
            return self.text(name)
        try:
            return prompt_from_json(self.fields[name])
        except DataError as error:
            raise self.fault(f'"{name}" can\'t be used: {error}') from error

    def optional_text(self, *names: str) -> str | None:
        """Like `text`, but None if none of `names` is present."""
        return self.text(*names) if any(self.has(name) for name in names) else None

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """A finite number in [low, high].

        Raises:
            DataError: it is anything else.
        """
        value = self.fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fault(f'"{name}" can\'t be used', got=value, expected=f"a number from {low:g} to {high:g}")
        return float(value)

    def whole_number(self, name: str, *, default: int | None, low: int = 0) -> int | None:
        """A whole number of at least `low`; `default` if the field is missing or null.

        Raises:
            DataError: it is anything else.
        """
        value = self.fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.fault(f'"{name}" can\'t be used', got=value, expected=f"a whole number of at least {low}")
        return value

    def list_of(self, name: str, kind: type[Member]) -> list[Member]:
        """A list whose members are all of `kind`; empty if the field is missing or null.

        Raises:
            DataError: it is anything else.
        """
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(type(member) is kind for member in value):
            raise self.fault(f'"{name}" can\'t be used', got=value, expected=f"a list of {kind.__name__}")
        return value

    def nested(self, name: str) -> Record:
        """The object in a field; empty if the field is missing or null.

        Raises:
            DataError: it isn't an object.
        """
        value = self.fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.fault(f'"{name}" can\'t be used', got=value, expected="an object")
        return Record(self.path, self.line, value or {})


def is_whole_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, which a lone surrogate can't."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def read_records(path: Path, plain: str) -> Iterator[Record]:
    """The records of a .txt (each line is the field `plain`), .csv or .jsonl file.

    Raises:
        DataError: the file type is unknown, or the file can't be read.
    """
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise DataError(f"{path}: unknown file type", got=suffix, expected=" or ".join(ENDINGS))
    if suffix == ".txt":
        return read_plain_lines(path, plain)
    return read_csv(path) if suffix == ".csv" else read_json_lines(path)


def read_json_lines(path: Path) -> Iterator[Record]:
    """Each line's JSON object; blank lines are skipped.

    Raises:
        DataError: the file can't be read, or a line isn't a JSON object; names file and line.
    """
    for number, line in _numbered_lines(path):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number with thousands of digits raises a plain ValueError
            raise DataError(
                f"{path}, line {number}: not valid JSON ({error})",
                got=line,
                expected="one JSON object a line",
                remedy="If the last line is cut off, the download was interrupted: fetch the file again.",
            ) from error
        if not isinstance(fields, dict):
            raise DataError(f"{path}, line {number}: not a JSON object", got=fields, expected="one JSON object a line")
        yield Record(path, number, fields)


def read_plain_lines(path: Path, name: str) -> Iterator[Record]:
    """Each line as the field `name`; blank lines are skipped.

    Raises:
        DataError: the file can't be read.
    """
    for number, line in _numbered_lines(path):
        yield Record(path, number, {name: line.strip()})


def read_csv(path: Path) -> Iterator[Record]:
    """Each row of a CSV file whose first row names the columns; empty cells count as missing.

    Raises:
        DataError: the file can't be read, isn't valid CSV, or has a row longer than its first.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        for row in reader:
            if None in row:
                raise DataError(
                    f"{path}, line {reader.line_num}: more cells than the header row",
                    got=row[None],
                    remedy='Put cells that hold a comma in double quotes ("...").',
                )
            yield Record(path, reader.line_num, {name: cell for name, cell in row.items() if cell and cell.strip()})
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def read_text(path: Path) -> str:
    """A file's text, without a byte order mark.

    Raises:
        DataError: the file can't be read, or isn't UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} can't be read", remedy=f"{error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", got=error.object[error.start : error.end]) from error


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    # Only \n ends a line: str.splitlines would also split at characters that may occur inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line
