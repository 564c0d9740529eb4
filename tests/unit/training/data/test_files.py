"""Files of preferences, prompts and demonstrations: they round-trip, and errors name what can't be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.files import (
    read_demonstrations,
    read_preferences,
    read_prompts,
    write_demonstrations,
    write_preferences,
    write_prompts,
)
from training.data.records import LeftOut, Reading
from training.data.types import Demonstration, Preference, PreferenceSource, PromptRecord
from training.errors import DataError

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS).filter(lambda t: t[1] != t[2]), max_size=5), st.floats(0.5, 1))
def test_preferences_come_back_as_they_were_written(tmp_path_factory, rows, share: float) -> None:
    """Any text, even with line separators inside, survives the round trip."""
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    source = PreferenceSource(1, 2, (3, 4), "rankloop-v1", None, left_votes=2, right_votes=1)
    preferences = [Preference(p, c, r, share, 3, ("1", "2"), source) for p, c, r in rows]
    write_preferences(path, preferences)
    assert read_preferences(path) == preferences


def test_plain_trl_rows_are_read(tmp_path: Path) -> None:
    """prompt, chosen and rejected are enough; blank lines and a byte order mark don't matter."""
    path = tmp_path / "trl.jsonl"
    path.write_text('\ufeff{"prompt": "p", "chosen": "a", "rejected": "b"}\n\n', encoding="utf-8")
    assert read_preferences(path) == [Preference("p", "a", "b")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p", "chosen": "a"}, '"rejected"'),
        ({"prompt": "p", "chosen": "a", "rejected": {}}, "{}"),
        ({"prompt": "p", "chosen": "", "rejected": "b"}, "blank"),
        ({"prompt": "p", "chosen": "a", "rejected": " "}, "blank"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "blank"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "the same text"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": 0.2}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": float("nan")}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": True}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "votes": 0}, "of at least 1"),
        ({"prompt": "p", "chosen": "\ud800", "rejected": "b"}, "lone surrogate"),
        ([{"role": "user"}], "not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: object, words: str) -> None:
    """The error names the file, the line and the problem."""
    path = tmp_path / "preferences.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n' + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"preferences\.jsonl, line 2") as raised:
        read_preferences(path, Reading(strict=True))
    assert words in str(raised.value)
    left_out = LeftOut()
    assert read_preferences(path, left_out=left_out) == [Preference("p", "a", "b")]
    assert left_out.in_words().startswith("1 row left out: line 2 (")


@pytest.mark.parametrize("line", ['{"prompt": "p", "cho', "[" * 100_000, "1" * 5000])
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str) -> None:
    """A truncated line, very deep nesting and a very long number are data errors, not crashes."""
    path = tmp_path / "cut.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.jsonl, line 1"):
        read_preferences(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A missing file, bytes that aren't UTF-8 and an unknown file type are data errors."""
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(DataError, match=r"gone\.jsonl can't be read"):
        read_preferences(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"not UTF-8 text.*got b'\\xe9'.*--encoding"):
        read_preferences(tmp_path / "latin.jsonl")
    with pytest.raises(DataError, match=r"unknown encoding; got 'klingon'"):
        read_preferences(tmp_path / "latin.jsonl", Reading(encoding="klingon"))
    with pytest.raises(DataError, match=r"got '\.xlsx'; expected \.csv or \.tsv or \.json or \.jsonl or \.txt"):
        read_prompts(tmp_path / "prompts.xlsx")


def test_prompts_are_read_from_text_csv_and_json_lines(tmp_path: Path) -> None:
    """A text file has one prompt per line; CSV and JSON lines may include a reference."""
    (tmp_path / "p.txt").write_text("  How?  \n\nWhy?\r\n", encoding="utf-8")
    (tmp_path / "p.csv").write_text('id,prompt,reference\n1,"How, then?",So.\n2,"Two\nlines?",\n', encoding="utf-8")
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "How?", "completion": "So.", "label": 1}\n{"prompt": "Why?"}\n', encoding="utf-8"
    )
    assert read_prompts(tmp_path / "p.txt") == [PromptRecord("How?"), PromptRecord("Why?")]
    assert read_prompts(tmp_path / "p.csv") == [PromptRecord("How, then?", "So."), PromptRecord("Two\nlines?")]
    assert read_prompts(tmp_path / "p.jsonl") == [PromptRecord("How?", "So."), PromptRecord("Why?")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", "question\nHow?\n", 'line 2: no "prompt"'),
        ("p.csv", "prompt\nHow, then?\n", "line 2: more cells"),
        ("p.txt", "\n \n", "contains no prompts"),
        ("p.json", '{"prompt": "p"', "not valid JSON"),
        ("p.json", "3", "not an array"),
    ],
)
def test_prompts_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    """A missing column, an unquoted comma, an empty file and broken JSON each get their own error."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_prompts(tmp_path / name)
    assert words in str(raised.value)


def test_prompts_and_demonstrations_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Prompts and demonstrations survive the round trip; alternative names for an answer are accepted."""
    prompts = [PromptRecord("How?\nNow"), PromptRecord("Why?", "So.")]
    demonstrations = [Demonstration("How?", "So.\n")]
    write_prompts(tmp_path / "p.jsonl", prompts)
    write_demonstrations(tmp_path / "d.jsonl", demonstrations)
    assert read_prompts(tmp_path / "p.jsonl") == prompts
    assert read_demonstrations(tmp_path / "d.jsonl") == demonstrations
    (tmp_path / "e.jsonl").write_text('{"prompt": "p", "completion": "c"}\n{"prompt": "p", "summary": "s"}\n')
    assert read_demonstrations(tmp_path / "e.jsonl") == [Demonstration("p", "c"), Demonstration("p", "s")]
