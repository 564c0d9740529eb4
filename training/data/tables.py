"""Text files of rows: JSON lines, JSON arrays, CSV, TSV and plain lines, as other programs write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.data.records import Reading, Record
from training.errors import DataError

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".txt")
"""Endings of the files that `read_records` can read."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_AS_DEFAULT = Reading()
_ENCODING_REMEDY = (
    "Save it as UTF-8, or name its encoding with --encoding: cp1252 is what Windows programs often write."
)
_LONGEST_CELL = 2**31 - 1


def read_records(path: Path, plain: str, reading: Reading = _AS_DEFAULT) -> Iterator[Record]:
    """The rows of a .txt (each line is the field `plain`), .csv, .tsv, .jsonl or .json file.

    A row may stand inside `data`, as in Label Studio's import format. A line that is no row is a broken record.

    Raises:
        DataError: the file type is unknown, or the file can't be read.
    """
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise DataError(f"{path}: unknown file type", got=suffix, expected=" or ".join(ENDINGS))
    text = _read(path, reading.encoding, remedy=_ENCODING_REMEDY)
    if suffix == ".txt":
        return _plain_lines(path, text, plain)
    if suffix in (".csv", ".tsv"):
        return _csv_rows(path, text, "\t" if suffix == ".tsv" else separator_of(text))
    return _json_file(path, text, plain) if suffix == ".json" else _json_lines(path, text, plain)


def read_text(path: Path, encoding: str | None = None) -> str:
    """A file's text, without a byte order mark.

    Args:
        path: the file.
        encoding: its name, such as `cp1252`; None for UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        DataError: the file can't be read, isn't text in that encoding, or the encoding is unknown.
    """
    return _read(path, encoding, remedy="Save it as UTF-8.")


def _read(path: Path, encoding: str | None, *, remedy: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read", remedy=f"{error.strerror or error}.") from error
    name = encoding or next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(name).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except LookupError as error:
        raise DataError("unknown encoding", got=encoding, expected="a name such as utf-8 or cp1252") from error
    except UnicodeError as error:
        raise _not_in(name, path, content, error, remedy) from error


def separator_of(text: str) -> str:
    """What separates the cells of a CSV file, by its first line: a semicolon if it has more of them than commas, a tab
    if it has neither; else a comma. As Label Studio decides.
    """
    first = text.lstrip("\n").partition("\n")[0]
    if first.count(";") > first.count(","):
        return ";"
    return "\t" if "\t" in first and "," not in first else ","


def _not_in(name: str, path: Path, content: bytes, error: UnicodeError, remedy: str) -> DataError:
    named = "UTF-8" if name in ("utf-8", "utf-8-sig") else name
    if not isinstance(error, UnicodeDecodeError):
        return DataError(f"{path} is not {named} text ({error})")
    line = content.count(b"\n", 0, error.start) + 1
    return DataError(
        f"{path} is not {named} text: line {line} has a byte that isn't",
        got=error.object[error.start : error.start + 1],
        remedy=remedy,
    )


def _plain_lines(path: Path, text: str, name: str) -> Iterator[Record]:
    for number, line in _numbered_lines(text):
        yield Record(path, number, {name: line.strip()})


def _json_lines(path: Path, text: str, plain: str) -> Iterator[Record]:
    for number, line in _numbered_lines(text):
        try:
            yield _row(path, number, json.loads(line), plain)
        except (ValueError, RecursionError) as error:  # a number with thousands of digits raises a plain ValueError
            yield _broken(
                path,
                number,
                f"not valid JSON ({error})",
                got=line,
                remedy="If the last line is cut off, the download was interrupted: fetch the file again.",
            )


def _json_file(path: Path, text: str, plain: str) -> Iterator[Record]:
    """Each element of an array, by its number; an object alone is one row, unless its `data` is the array.

    Some programs write JSON lines into files called .json.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n{" in text.strip():
            return _json_lines(path, text, plain)
        raise DataError(
            f"{path}: not valid JSON ({error})",
            expected="an array of objects",
            remedy="If its end is cut off, the download was interrupted: fetch the file again.",
        ) from error
    if isinstance(rows, dict):
        rows = rows["data"] if isinstance(rows.get("data"), list) else [rows]
    if not isinstance(rows, list):
        raise DataError(f"{path}: not an array", got=rows, expected="an array of objects")
    return (_row(path, number, row, plain) for number, row in enumerate(rows, start=1))


def _row(path: Path, number: int, row: Any, plain: str) -> Record:
    """One JSON value as a row: an object, the `data` of a task, or a text alone."""
    if isinstance(row, str):
        return Record(path, number, {plain: row})
    if not isinstance(row, dict):
        return _broken(path, number, "not a JSON object", got=row)
    data = row.get("data")
    if isinstance(data, dict) and plain not in row:
        return Record(path, number, data)
    return Record(path, number, row)


def _broken(path: Path, number: int, what: str, *, got: object, remedy: str | None = None) -> Record:
    fault = Record(path, number, {}).fault(what, got=got, expected="one JSON object a line", remedy=remedy)
    return Record(path, number, {}, fault)


def _csv_rows(path: Path, text: str, separator: str) -> Iterator[Record]:
    """Each row of a CSV file whose first row names the columns; empty cells count as missing."""
    csv.field_size_limit(_LONGEST_CELL)  # an answer may be longer than the default limit of 131,072 characters
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    while True:
        try:
            row: Mapping[str | None, Any] | None = next(reader, None)
        except csv.Error as error:
            yield _bad_row(path, reader.line_num, f"not valid CSV ({error})")
            continue
        if row is None:
            return
        if None in row:
            mark = {",": "comma", ";": "semicolon", "\t": "tab"}[separator]
            remedy = f'Put cells that hold a {mark} in double quotes ("...").'
            yield _bad_row(path, reader.line_num, "more cells than the header row", got=row[None], remedy=remedy)
            continue
        cells = {name: _cell(cell) for name, cell in row.items() if name and cell and cell.strip()}
        yield Record(path, reader.line_num, cells)


def _bad_row(path: Path, line: int, what: str, *, got: object = None, remedy: str | None = None) -> Record:
    return Record(path, line, {}, Record(path, line, {}).fault(what, got=got, remedy=remedy))


def _cell(cell: str) -> object:
    """A cell's text, or the messages or source that it holds as JSON."""
    if cell.lstrip()[:2] not in ("[{", '{"', "[]", '["'):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    messages = isinstance(value, list) and all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in value)
    ours = isinstance(value, dict) and set(value) >= {"annotation_ids", "chosen_version"}
    return value if (messages and value) or ours else cell


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    # Only \n ends a line: str.splitlines would also split at characters that may occur inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line
