"""Rows of files: their fields, errors that name file and line, and what becomes of rows that can't be used."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from training.data.prompts import Prompt, prompt_from_json, shown_text
from training.errors import DataError

REFERENCE_KEYS = ("reference", "summary", "completion")
"""Names of the field with a reference answer, which a person wrote and rewards are measured against. A `label` is as
often a class, and is read only where somebody asks for it."""
LINES_NAMED = 5
"""How many of the rows that were left out are named."""

Member = TypeVar("Member")
Made = TypeVar("Made")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of rows is read.

    encoding: None for UTF-8, or what a byte order mark says.
    strict: whether one row that can't be used is an error.
    reference_field: the column with reference answers; None for one called reference, summary or completion.
    """

    encoding: str | None = None
    strict: bool = False
    reference_field: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One row's fields, with their file and line number for errors.

    `broken` says why a line isn't a row at all; its fields are empty then.
    """

    path: Path
    line: int
    fields: Mapping[str, object]
    broken: DataError | None = None

    def fault(
        self, what: str, *, got: object = None, expected: str | None = None, remedy: str | None = None
    ) -> DataError:
        """An error that begins with this record's file and line."""
        return DataError(f"{self.path}, line {self.line}: {what}", got=got, expected=expected, remedy=remedy)

    def value(self, name: str) -> object:
        """A field's value, None if it is missing. Case doesn't matter where only one field has that name."""
        if name in self.fields:
            return self.fields[name]
        alike = [key for key in self.fields if isinstance(key, str) and key.strip().lower() == name.strip().lower()]
        return self.fields[alike[0]] if len(alike) == 1 else None

    def has(self, name: str) -> bool:
        """Whether the field is present and isn't null."""
        return self.value(name) is not None

    def text(self, *names: str, blank: bool = False) -> str:
        """The text of the first field among `names` that is present; numbers and booleans as they are shown.

        Args:
            names: the fields, most wanted first.
            blank: whether a blank text is one.

        Raises:
            DataError: none is present, or it isn't text, is blank, or contains a lone surrogate.
        """
        name = next((name for name in names if self.has(name)), None)
        wanted = " or ".join(f'"{name}"' for name in names)
        if name is None:
            raise self.fault(f"no {wanted}", got=sorted(map(str, self.fields)), expected=f"text in {wanted}")
        value = shown_text(self.value(name))
        if value is None or not (blank or value.strip()):
            raise self.fault(f'"{name}" can\'t be used', got=self.value(name), expected="non-blank text")
        if not is_whole_unicode(value):
            raise self.fault(f'"{name}" contains a lone surrogate', got=value, expected="valid Unicode")
        return value

    def prompt(self, name: str) -> Prompt:
        """The prompt in a field: a text, or a list of messages.

        Raises:
            DataError: it is missing, blank, or neither.
        """
        if not isinstance(self.value(name), list):
            return self.text(name)
        try:
            prompt = prompt_from_json(self.value(name))
        except DataError as error:
            raise self.fault(f'"{name}" can\'t be used: {error}') from error
        texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
        if not any(text.strip() for text in texts) or not all(map(is_whole_unicode, texts)):
            raise self.fault(f'"{name}" can\'t be used', got=self.value(name), expected="messages with text")
        return prompt

    def optional_text(self, *names: str) -> str | None:
        """Like `text`, but None if none of `names` is present."""
        return self.text(*names) if any(self.has(name) for name in names) else None

    def reference(self, reading: Reading) -> str | None:
        """The reference answer: the field that was asked for, else the first of `REFERENCE_KEYS` that holds text.

        Raises:
            DataError: the field that was asked for can't be used.
        """
        if reading.reference_field is not None:
            return self.optional_text(reading.reference_field)
        texts = (self.value(name) for name in REFERENCE_KEYS)
        return next((text for text in texts if isinstance(text, str) and text.strip() and is_whole_unicode(text)), None)

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """A finite number in [low, high], perhaps written as text.

        Raises:
            DataError: it is anything else.
        """
        given = self.fields.get(name, default)
        value = _number(given)
        if value is None or not low <= value <= high:
            raise self.fault(f'"{name}" can\'t be used', got=given, expected=f"a number from {low:g} to {high:g}")
        return float(value)

    def whole_number(self, name: str, *, default: int | None, low: int = 0) -> int | None:
        """A whole number of at least `low`, perhaps written as text; `default` if the field is missing or null.

        Raises:
            DataError: it is anything else.
        """
        given = self.fields.get(name)
        if given is None:
            return default
        value = _number(given)
        if not isinstance(value, int) or value < low:
            raise self.fault(f'"{name}" can\'t be used', got=given, expected=f"a whole number of at least {low}")
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


@dataclass(slots=True)
class LeftOut:
    """The rows of a file that couldn't be used: how many for each reason, and the first of them with their lines."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.reasons.total()

    def add(self, record: Record, error: DataError) -> None:
        """Note one row."""
        reason = error.what.removeprefix(f"{record.path}, line {record.line}: ")
        self.reasons[reason] += 1
        if len(self.first) < LINES_NAMED:
            self.first.append(f"line {record.line} ({reason})")

    def in_words(self) -> str:
        """For instance `2 rows left out: line 4 ("rejected" is blank), line 9 (not valid JSON)`."""
        more = ", ..." if self.rows > len(self.first) else ""
        return f"{self.rows} row{'s' * (self.rows != 1)} left out: {', '.join(self.first)}{more}"


def usable(
    records: Iterable[Record],
    make: Callable[[Record], Made],
    reading: Reading,
    left_out: LeftOut | None = None,
) -> list[Made]:
    """What `make` makes of each row. A row that it refuses is left out, counted, and named in the log.

    Args:
        records: the rows of one file.
        make: raises DataError for a row that can't be used.
        reading: with `strict`, the first such row is an error.
        left_out: receives the rows that were left out, instead of the log.

    Raises:
        DataError: there are rows, but none can be used.
    """
    made, found, first_fault, path = [], left_out or LeftOut(), None, None
    for record in records:
        path = record.path
        try:
            if record.broken is not None:
                raise record.broken
            made.append(make(record))
        except DataError as error:
            if reading.strict:
                raise
            first_fault = first_fault or error
            found.add(record, error)
    if first_fault and not made:
        raise _nothing_left(first_fault, found.rows)
    if found.rows and left_out is None:
        logger.warning("%s: %s", path, found.in_words())
    return made


def is_whole_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, which a lone surrogate can't."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _nothing_left(error: DataError, rows: int) -> DataError:
    if rows == 1:
        return error
    what = f"{error.what} (and none of the other {rows - 1} rows can be used either)"
    return DataError(what, got=error.got, expected=error.expected, remedy=error.remedy)


def _number(value: object) -> int | float | None:
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
