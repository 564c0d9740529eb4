"""Builders of judgements for tests of what they say about people."""

from __future__ import annotations

from itertools import count
from typing import Any

from training.data.types import JudgedAnswer, Judgement, Verdict

_numbers = count(1)
VERDICTS = {"l": Verdict.ANSWER1, "r": Verdict.ANSWER2, "t": Verdict.TIE}


def vote(annotator: str, pair: object, said: str, **more: Any) -> Judgement:
    """One verdict (l for left, r for right, t for a tie) on the pair of this name, as shuffled answers of a version."""
    number = next(_numbers)
    return Judgement(
        prompt=f"prompt {pair}",
        answer1=JudgedAnswer("this", "rankloop-v1"),
        answer2=JudgedAnswer("that", "rankloop-v1"),
        verdict=VERDICTS[said],
        annotator=annotator,
        annotation_id=number,
        updated_at=f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}+00:00",
        **{"sides": "shuffled", **more},
    )


def votes(annotator: str, said: str, first: int = 0, **more: Any) -> list[Judgement]:
    """Verdicts on pairs numbered from `first`; a dash leaves one out."""
    return [vote(annotator, first + place, mark, **more) for place, mark in enumerate(said) if mark != "-"]


def swapped(judgement: Judgement) -> Judgement:
    """The same opinion of somebody who saw the answers the other way round."""
    from dataclasses import replace

    other = {Verdict.ANSWER1: Verdict.ANSWER2, Verdict.ANSWER2: Verdict.ANSWER1, Verdict.TIE: Verdict.TIE}
    return replace(
        judgement,
        answer1=judgement.answer2,
        answer2=judgement.answer1,
        verdict=other[judgement.verdict],
    )
