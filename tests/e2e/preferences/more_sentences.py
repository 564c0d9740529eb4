"""A taste for answers with many sentences."""

from __future__ import annotations

import re


def more_sentences(_prompt: str, answer1: str, answer2: str) -> str:
    """The answer with more sentences; a tie if they have equally many."""
    first, second = _sentences(answer1), _sentences(answer2)
    if first == second:
        return "tie"
    return "1" if first > second else "2"


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"[.!?]+", text) if part.strip()])
