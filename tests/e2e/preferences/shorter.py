"""A taste for short answers."""

from __future__ import annotations


def shorter(_prompt: str, answer1: str, answer2: str) -> str:
    """The answer with fewer words; a tie if they have equally many."""
    words1, words2 = len(answer1.split()), len(answer2.split())
    if words1 == words2:
        return "tie"
    return "1" if words1 < words2 else "2"
