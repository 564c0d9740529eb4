"""Prompts: texts and conversations."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data import (
    JudgedAnswer,
    Judgement,
    Message,
    Verdict,
    aggregate,
    prompt_as_json,
    prompt_from_json,
    prompt_in_words,
    read_preferences,
    split_of,
    write_preferences,
)
from training.errors import DataError

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_a_conversation_survives_its_file() -> None:
    """Messages read from JSON are written as they were, and a text stays a text."""
    assert prompt_as_json(prompt_from_json(CHAT)) == CHAT
    assert prompt_from_json(CHAT) == (Message("system", "Be brief."), Message("user", "Hello"))
    assert prompt_as_json(prompt_from_json("Hello")) == "Hello"


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (2.5, "2.5"), (True, "true"), (False, "false")])
def test_typed_columns_are_their_text(value: object, text: str) -> None:
    """A spreadsheet's number or truth value is the text that was in its cell."""
    assert prompt_from_json(value) == text


def test_plain_models_get_roles_spelled_out() -> None:
    """One message is its text; several are told apart by their roles."""
    assert prompt_in_words((Message("user", "Hello"),)) == "Hello"
    assert prompt_in_words(prompt_from_json(CHAT)) == "System: Be brief.\n\nUser: Hello"


@pytest.mark.parametrize("value", [None, [], {}, ["Hello"], [{"role": "user"}], [{"role": "king", "content": "Kneel"}]])
def test_what_is_no_prompt_is_refused(value: object) -> None:
    """Nothing, lists of texts, messages without text and unknown roles are errors."""
    with pytest.raises(DataError):
        prompt_from_json(value)


def test_preferences_of_both_forms_share_a_file(tmp_path: Path) -> None:
    """A file may mix texts and conversations; votes on both are combined and written as they were read."""
    judgements = [
        Judgement(prompt, JudgedAnswer("yes"), JudgedAnswer("no"), Verdict.ANSWER1, "ann")
        for prompt in ("Hello", prompt_from_json(CHAT), prompt_from_json(CHAT))
    ]
    preferences = aggregate(judgements)
    assert [preference.votes for preference in preferences] == [1, 2]
    write_preferences(tmp_path / "p.jsonl", preferences)
    assert read_preferences(tmp_path / "p.jsonl") == preferences


def test_a_conversation_stays_in_its_part() -> None:
    """A prompt's part of the data depends on its words alone, whichever form it has."""
    assert split_of((Message("user", "Hello  there"),)) == split_of("Hello there")
