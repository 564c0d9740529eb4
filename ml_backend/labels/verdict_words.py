"""The names that a verdict's choices may have."""

from __future__ import annotations

import re

from training.data import Verdict

# In lower case, letters and digits only. Nothing else is ever read as a verdict.
_NOUNS = ("", "answer", "response", "option")
_VERDICT_WORDS = {
    Verdict.ANSWER1: {noun + mark for noun in _NOUNS for mark in "1a"} | {"left", "first"},
    Verdict.ANSWER2: {noun + mark for noun in _NOUNS for mark in "2b"} | {"right", "second"},
    Verdict.TIE: {"tie", "draw", "same", "aboutthesame", "equal", "equallygood", "bothgood"},
    Verdict.BOTH_BAD: {"bothbad", "neither", "equallybad"},
}


def verdict_called(value: str) -> Verdict | None:
    """The verdict that a choice's value or alias names; None if it is unknown."""
    word = plain_word(value)
    return next((verdict for verdict, words in _VERDICT_WORDS.items() if word in words), None)


def plain_word(value: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", value).lower()
