"""What the choices of a verdict may be called."""

from __future__ import annotations

import re

from training.data import Verdict

# What a choice may be called (lower case, letters and digits only). Anything else is never read as a verdict.
_NOUNS = ("", "answer", "response", "option")
_VERDICT_WORDS = {
    Verdict.ANSWER1: {noun + mark for noun in _NOUNS for mark in "1a"} | {"left", "first"},
    Verdict.ANSWER2: {noun + mark for noun in _NOUNS for mark in "2b"} | {"right", "second"},
    Verdict.TIE: {"tie", "draw", "same", "aboutthesame", "equal", "equallygood", "bothgood"},
    Verdict.BOTH_BAD: {"bothbad", "neither", "equallybad"},
}


def verdict_called(value: str) -> Verdict | None:
    """The verdict that a choice's value or alias is a usual name of; None for any other."""
    word = plain_word(value)
    return next((verdict for verdict, words in _VERDICT_WORDS.items() if word in words), None)


def plain_word(value: str) -> str:
    """Lower case, letters and digits only."""
    return re.sub(r"[\W_]+", "", value).lower()
