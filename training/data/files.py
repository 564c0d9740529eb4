"""The files that training reads and writes: preferences, prompts, demonstrations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from training.atomic import write_atomically
from training.data.prompts import (
    Message,
    Prompt,
    prompt_as_json,
    prompt_from_json,
    prompt_in_words,
    turns_in,
    two_endings,
)
from training.data.records import REFERENCE_KEYS, LeftOut, Reading, Record, is_whole_unicode, usable
from training.data.tables import read_records
from training.data.types import Demonstration, Preference, PreferenceSource, PromptRecord
from training.data.votes import PairKey
from training.errors import DataError

AS_DEFAULT = Reading()
PAIR_SCORES = "held_out_scores.jsonl"
"""The file of `write_pair_scores` beside a reward model."""
CONVERSATIONS = ("messages", "conversations", "conversation")
"""Columns that hold a whole conversation."""


def read_preferences(
    path: Path | str, reading: Reading = AS_DEFAULT, left_out: LeftOut | None = None
) -> list[Preference]:
    """Read preferences in TRL's formats (standard, conversational, with an implicit prompt), from any kind of file.

    Our extra fields (`p_chosen`, `votes`, ...) are optional; other columns are ignored. A row that can't be used is
    left out and named.

    Args:
        path: a .jsonl, .json, .csv or .tsv file.
        reading: how to read it.
        left_out: receives the rows that were left out; without it they are logged.

    Raises:
        DataError: the file can't be read, or no row can be used; names the file and line, and what was expected.
    """
    return usable(read_records(Path(path), "prompt", reading), _preference_from, reading, left_out)


def write_preferences(path: Path | str, preferences: Iterable[Preference]) -> None:
    """Write JSON lines that `read_preferences` and TRL can read, atomically."""
    _write_rows(path, map(asdict, preferences))


def write_pair_scores(path: Path | str, scores: Iterable[tuple[Preference, float]]) -> None:
    """Write a reward model's opinion on pairs that it didn't learn from, atomically.

    Args:
        path: the file.
        scores: pairs, each with the log-odds that the chosen answer is the better one.
    """
    _write_rows(
        path,
        (
            {
                "prompt": prompt_as_json(pair.prompt),
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "score": score,
            }
            for pair, score in scores
        ),
    )


def read_pair_scores(path: Path) -> dict[PairKey, float]:
    """What `write_pair_scores` wrote: the log-odds that the first text of a pair's key is the better one.

    Raises:
        DataError: the file can't be read.
    """
    found: dict[PairKey, float] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            prompt, (chosen, rejected) = prompt_from_json(row["prompt"]), (row["chosen"], row["rejected"])
            first, second = sorted((chosen, rejected))
            found[prompt, first, second] = float(row["score"]) if first == chosen else -float(row["score"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read", expected="a reward model's scores, one pair a line") from error
    return found


def read_prompts(
    path: Path | str, reading: Reading = AS_DEFAULT, left_out: LeftOut | None = None
) -> list[PromptRecord]:
    """Read prompts: a .txt file holds one per line; .csv, .tsv, .jsonl and .json have a field `prompt`.

    A reference answer stands in `reference`, `summary` or `completion`, or in the field that `reading` names.

    Raises:
        DataError: an unknown file type, no prompts, or no row that can be used; names the file and line.
    """
    records = read_records(Path(path), "prompt", reading)
    make = partial(_prompt_from, reading=reading)
    prompts = usable(records, make, reading, left_out)
    if not prompts:
        raise DataError(f"{path} contains no prompts", expected="at least one")
    return prompts


def write_prompts(path: Path | str, prompts: Iterable[PromptRecord]) -> None:
    """Write JSON lines that `read_prompts` can read, atomically."""
    rows = map(asdict, prompts)
    _write_rows(path, ({name: text for name, text in row.items() if text is not None} for row in rows))


def read_demonstrations(
    path: Path | str, reading: Reading = AS_DEFAULT, left_out: LeftOut | None = None
) -> list[Demonstration]:
    """Read rows of `prompt` and `answer` (or a reference answer, see `read_prompts`), or of `messages`.

    Raises:
        DataError: the file can't be read, or no row can be used; names the file and line, and what was expected.
    """
    make = partial(_demonstration_from, reading=reading)
    return usable(read_records(Path(path), "prompt", reading), make, reading, left_out)


def write_demonstrations(path: Path | str, demonstrations: Iterable[Demonstration]) -> None:
    """Write JSON lines that `read_demonstrations` can read, atomically."""
    _write_rows(path, map(asdict, demonstrations))


def prompt_in(record: Record, name: str = "prompt") -> Prompt:
    """A row's prompt: the field `name`, else the conversation in `messages` up to its last answer.

    Raises:
        DataError: there is none, or it can't be used.
    """
    if record.has(name) or not any(record.has(column) for column in CONVERSATIONS):
        return record.prompt(name)
    turns = _conversation(record)
    return turns[:-1] if turns[-1].role == "assistant" and len(turns) > 1 else turns


def _prompt_from(record: Record, reading: Reading) -> PromptRecord:
    return PromptRecord(prompt_in(record), record.reference(reading))


def _demonstration_from(record: Record, reading: Reading) -> Demonstration:
    if not record.has("prompt") and any(record.has(column) for column in CONVERSATIONS):
        turns = _conversation(record)
        if turns[-1].role != "assistant" or len(turns) < 2 or not turns[-1].content.strip():
            raise record.fault("the conversation doesn't end with an answer of the assistant's", got=turns[-1].content)
        return Demonstration(turns[:-1], turns[-1].content)
    if reading.reference_field is not None:
        return Demonstration(record.prompt("prompt"), record.text(reading.reference_field))
    return Demonstration(record.prompt("prompt"), _answer(record, "answer", *REFERENCE_KEYS))


def _conversation(record: Record) -> tuple[Message, ...]:
    column = next(column for column in CONVERSATIONS if record.has(column))
    turns = record.prompt(column)
    if isinstance(turns, str):
        raise record.fault(f'"{column}" isn\'t a list of messages', got=turns)
    return turns


def _answer(record: Record, *names: str) -> str:
    """An answer: a text, or a list of one message of the assistant's."""
    name = next((name for name in names if record.has(name)), names[0])
    if not isinstance(record.value(name), list):
        return record.text(*names)
    ending = record.prompt(name)
    if isinstance(ending, str) or len(ending) != 1 or ending[0].role != "assistant":
        raise record.fault(f'"{name}" isn\'t one answer', got=record.value(name), expected="one assistant's message")
    return ending[0].content


def _preference_from(record: Record) -> Preference:
    prompt, chosen, rejected = _pair_in(record)
    votes = record.whole_number("votes", default=1, low=1) or 1
    if not chosen.strip():
        raise record.fault('"chosen" is blank', got=chosen, expected="non-blank text")
    # Only votes tell an empty answer that lost from one that is missing.
    if not rejected.strip() and not record.has("votes"):
        raise record.fault('"rejected" is blank, and no "votes" say that it was judged', got=rejected)
    if chosen.split() == rejected.split():
        raise record.fault('"chosen" and "rejected" are the same text', got=chosen, expected="two different answers")
    source = record.nested("source") if isinstance(record.value("source"), dict) else record.nested("")
    return Preference(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=record.number("p_chosen", default=1.0, low=0.5, high=1.0),
        votes=votes,
        annotators=_annotators(record),
        source=PreferenceSource(
            project_id=source.whole_number("project_id", default=None),
            task_id=source.whole_number("task_id", default=None),
            annotation_ids=tuple(source.list_of("annotation_ids", int)),
            chosen_version=source.optional_text("chosen_version"),
            rejected_version=source.optional_text("rejected_version"),
            rewrite=source.value("rewrite") is True,
            left_votes=source.whole_number("left_votes", default=0) or 0,
            right_votes=source.whole_number("right_votes", default=0) or 0,
            selection=source.optional_text("selection"),
        ),
    )


def _annotators(record: Record) -> tuple[str, ...]:
    """The annotators; a column of another form is somebody else's."""
    value = record.value("annotators")
    return tuple(value) if isinstance(value, list) and all(type(name) is str for name in value) else ()


def _pair_in(record: Record) -> tuple[Prompt, str, str]:
    """A row's prompt, chosen and rejected answer, in whichever form they stand."""
    for name in ("chosen", "rejected"):
        if not record.has(name):
            raise record.fault(
                f'no "{name}"',
                got=sorted(map(str, record.fields)),
                expected='"prompt", "chosen" and "rejected"',
                remedy="Rename the columns: which answer is better is never guessed.",
            )
    conversations = [_turns(record, name) for name in ("chosen", "rejected")]
    one, other = conversations
    if one is None or other is None:
        chosen, rejected = (record.text(name, blank=True) for name in ("chosen", "rejected"))
        # Without a prompt, people were asked which text is better.
        return "" if record.value("prompt") == "" else record.prompt("prompt"), chosen, rejected
    found = two_endings(one, other)
    if found is None:
        raise record.fault(
            '"chosen" and "rejected" don\'t share a beginning that each continues with one answer',
            got=[prompt_in_words(turns) for turns in (one, other)],
        )
    beginning, chosen, rejected = found
    if not beginning:
        return record.prompt("prompt"), chosen, rejected
    if record.has("prompt"):
        prompt = record.prompt("prompt")
        said = beginning if isinstance(prompt, tuple) else prompt_in_words(beginning[-1:])
        if prompt != said:
            raise record.fault('"prompt" isn\'t what "chosen" and "rejected" begin with', got=prompt_as_json(prompt))
    return beginning, chosen, rejected


def _turns(record: Record, name: str) -> tuple[Message, ...] | None:
    """The messages in a field, written as a list or, where there is no `prompt`, as a transcript; None for a text."""
    value = record.value(name)
    if isinstance(value, list):
        try:
            turns = prompt_from_json(value)
        except DataError as error:
            raise record.fault(f'"{name}" can\'t be used: {error}') from error
        if isinstance(turns, str) or not all(is_whole_unicode(turn.content) for turn in turns):
            raise record.fault(f'"{name}" can\'t be used', got=value, expected="messages with text")
        return turns
    if isinstance(value, str) and not record.has("prompt"):
        said = turns_in(record.text(name, blank=True))
        if said is None:
            raise record.fault(
                'no "prompt"',
                got=sorted(map(str, record.fields)),
                expected='a "prompt", or "chosen" and "rejected" that begin with the same turns (Human: ...)',
            )
        return said
    return None


def _write_rows(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    write_atomically(Path(path), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
