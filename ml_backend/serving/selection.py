"""Which two of several candidate answers people are asked to compare."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from ml_backend.settings import Selection

How = Literal["random", "gap", "uncertain"]
"""How one pair was chosen in the end."""
Drawn = tuple[str, bool]
"""An answer, and whether it was cut off at the length limit."""
RANDOM_SHARE = 0.2
"""The share of pairs that are drawn at random all the same: what is measured on them holds for the policy's answers."""


class Chosen(NamedTuple):
    """The places of two candidates, and how they were chosen."""

    first: int
    second: int
    how: How


def choose_pair(
    texts: Sequence[str], scores: Sequence[float], selection: Selection, dice: random.Random
) -> Chosen | None:
    """Choose two candidates that both say something, and not the same but for spacing; None if there are no two.

    Args:
        texts: the candidates, in the order they were drawn.
        scores: the reward model's, one each; none where there is no reward model, and the pair is random.
        selection: the setting.
        dice: decides what is left to chance; one draw of each kind whatever the candidates, so it can be repeated.
    """
    by_chance, half = dice.random() < RANDOM_SHARE, dice.random() < 0.5
    distinct: dict[str, int] = {}
    for place, text in enumerate(texts):
        if text.strip():
            distinct.setdefault(" ".join(text.split()), place)
    places = list(distinct.values())
    if len(places) < 2:
        return None
    if selection == "random" or by_chance or not scores or not all(math.isfinite(scores[place]) for place in places):
        return Chosen(places[0], places[1], "random")
    how: How = selection if selection != "mixed" else "gap" if half else "uncertain"

    def apart(pair: tuple[int, int]) -> float:
        return abs(scores[pair[0]] - scores[pair[1]])

    first, second = (max if how == "gap" else min)(combinations(places, 2), key=apart)
    return Chosen(first, second, how)


def pick(
    drawn: Sequence[Drawn], scores: Sequence[float], selection: Selection, dice: random.Random
) -> tuple[Drawn, Drawn, How]:
    """Choose two of several drawn answers, cut ones only where there aren't two others; where there are no two that
    differ, the first two, which aren't shown.

    Arguments as for `choose_pair`.
    """
    whole = ["" if cut else text for text, cut in drawn]
    state = dice.getstate()
    chosen = choose_pair(whole, scores, selection, dice)
    if chosen is None:
        dice.setstate(state)
        chosen = choose_pair([text for text, _ in drawn], scores, selection, dice) or Chosen(0, 1, "random")
    return drawn[chosen.first], drawn[chosen.second], chosen.how
