"""Prompts to label, from files and datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.prompt_sources import PromptSource, read_rows
from training.errors import DataError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prompts.txt", "What is tea?\n\n  How do I boil an egg?  \n"),
        ("prompts.csv", 'question,x\nWhat is tea?,1\n"How do I boil an egg?",2\n'),
        ("prompts.jsonl", '{"question": "What is tea?"}\n{"question": "How do I boil an egg?"}\n'),
    ],
)
def test_prompts_are_read_from_every_kind_of_file(name: str, content: str, tmp_path: Path) -> None:
    """The prompt's column is renamed to the key that the label config shows."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    rows = read_rows(PromptSource(str(path), "question"), "prompt")
    assert rows == [{"prompt": "What is tea?"}, {"prompt": "How do I boil an egg?"}]
    assert len(read_rows(PromptSource(str(path), "question", limit=1), "prompt")) == 1


def test_a_limit_draws_from_the_whole_file(tmp_path: Path) -> None:
    """Files are often sorted, so a limit draws at random; a larger one draws the same prompts and more."""
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"question {n}\n" for n in range(100)), encoding="utf-8")
    few, more = (
        [row["prompt"] for row in read_rows(PromptSource(str(path), limit=limit), "prompt")] for limit in (20, 30)
    )
    assert few == more[:20]
    assert len(set(more)) == 30
    assert max(int(prompt.split()[1]) for prompt in few) > 50


def test_prompts_keep_the_reference_and_what_the_config_shows(tmp_path: Path) -> None:
    """A reference answer is kept; the error for a missing column that the config shows names its line."""
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"prompt": "p", "answer1": "a", "answer2": "b", "reference": "r", "label": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = read_rows(PromptSource(str(path)), "prompt", ["answer1", "answer2"])
    assert read == [{"prompt": "p", "answer1": "a", "answer2": "b", "reference": "r"}]
    with pytest.raises(DataError, match='line 1: no "answer3"'):
        read_rows(PromptSource(str(path)), "prompt", ["answer3"])


def test_a_local_dataset_is_read_by_its_name(tmp_path: Path) -> None:
    """A folder that `datasets` can load works like a name on the hub; an unknown one is a clear error."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.csv").write_text("prompt\nWhat is tea?\n", encoding="utf-8")
    assert read_rows(PromptSource(str(folder)), "prompt") == [{"prompt": "What is tea?"}]
    with pytest.raises(DataError, match="dataset can't be read"):
        read_rows(PromptSource(str(tmp_path / "nowhere")), "prompt")
    with pytest.raises(DataError, match="Unknown split"):
        read_rows(PromptSource(str(folder), split="validation"), "prompt")
