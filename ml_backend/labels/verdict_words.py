"""What the names of choices and answers say: this answer, that answer, a tie, both bad. Nothing else is a verdict."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.data import Verdict

_SIDES = {
    Verdict.ANSWER1: {"1", "a", "left", "first", "one"},
    Verdict.ANSWER2: {"2", "b", "right", "second", "two"},
}
_POSITIONS = {"left", "right", "first", "second"}
_FURTHER = {*"3456789", *"cdefgh", "third", "fourth", "fifth", "three", "four", "five"}
_NOUNS = {
    *("answer", "response", "option", "completion", "output", "reply", "candidate", "text", "summary", "model"),
    *(
        "assistant",
        "version",
        "choice",
        "result",
        "item",
        "generation",
        "translation",
        "sentence",
        "side",
        "resp",
        "ans",
    ),
}
_PRAISE = {"better", "best", "wins", "win", "won", "winner", "winning", "preferred", "prefer", "superior", "chosen"}
_SMALL = {
    *("is", "are", "was", "it", "its", "s", "the", "of", "i", "much", "slightly", "far", "clearly", "significantly"),
    *("strongly", "somewhat", "marginally", "definitely", "bit", "little", "way", "they", "both", "them", "than"),
}
_TIES = {
    *(
        "tie",
        "tied",
        "atie",
        "draw",
        "adraw",
        "same",
        "aboutsame",
        "allsame",
        "equal",
        "equally",
        "equivalent",
        "similar",
    ),
    *("equallygood", "good", "aregood", "nodifference", "nopreference", "comparable", "aboutequal", "tieboth"),
    *("tiegood", "samequality", "equalquality", "aboutaseach", "nobetter", "neitherbetter"),
}
_BAD = {
    *("neither", "none", "bad", "equallybad", "tiebad", "poor", "wrong", "equallypoor", "neithergood", "neitherone"),
    *("allbad", "neitheracceptable", "worse", "unacceptable", "fail", "reject", "terrible"),
}
_ON_A_SCALE = re.compile(r"[+-]\s*\d.*|0")
_COMPARISON = re.compile(r"\s*(?P<one>[ab12])\s*(?P<sign>>+|<+|=+|≈|~)\s*(?P<other>[ab12])\s*", re.IGNORECASE)


def verdict_called(value: str) -> Verdict | None:
    """The verdict that a choice's value or alias names; None if it is unknown."""
    compared = _COMPARISON.fullmatch(value)
    if _ON_A_SCALE.fullmatch(value.strip()):
        return None
    if compared:
        return _compared(compared["one"].lower(), compared["sign"], compared["other"].lower())
    words = _words(value)
    if "than" in words:  # "A is better than B"
        return _preferred_to(words)
    rest = "".join(word for word in words if word not in _SMALL | _NOUNS)
    has_both = "both" in words
    if rest in _TIES and (has_both or rest not in ("good", "aregood")):
        return Verdict.TIE
    if rest in _BAD and (has_both or rest.startswith(("neither", "none", "equally", "tie", "all"))):
        return Verdict.BOTH_BAD
    if not rest and has_both and not _PRAISE.intersection(words):
        return Verdict.TIE
    side = _side_in([word for word in words if word not in _PRAISE | _SMALL])
    return side if side and not has_both else None


def side_named(name: str) -> Verdict | None:
    """The side that the name of a tag or a column says it is on: `answer1`, `response_b`, `left`, `first answer`."""
    words = [word for word in _words(name) if word != "pair"]
    if plain_word(name) in ("chosen", "rejected"):
        return Verdict.ANSWER1 if plain_word(name) == "chosen" else Verdict.ANSWER2
    return _side_in(words) if sum(word in _NOUNS for word in words) <= 1 else None


def is_further(name: str) -> bool:
    """Whether a name counts beyond two answers (`answer3`, `Response C`, `third`) or is a number on a scale (-1)."""
    if _ON_A_SCALE.fullmatch(name.strip()):
        return True
    words = [word for word in _words(name) if word not in _NOUNS | _PRAISE | _SMALL]
    return len(words) == 1 and words[0] in _FURTHER


def counts_on(name: str) -> bool:
    """Whether the name of a tag or a column counts beyond two answers; a letter alone doesn't count."""
    return len(plain_word(name)) > 1 and is_further(name)


def names_a_position(value: str) -> bool:
    """Whether a choice speaks of where an answer stands (`left`) and not of its name (`A`)."""
    return not _POSITIONS.isdisjoint(_words(value))


def without_praise(value: str) -> str:
    """The plain word of what a choice praises: `human_answer` of `human_answer is better`."""
    return "".join(word for word in _words(value) if word not in _PRAISE | {"is", "the"})


def plain_word(value: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", value).lower()


def _words(value: str) -> list[str]:
    """Its words and numbers in lower case; `answerA` and `answer1` are two."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value.replace("'", ""))
    found = re.findall(r"[^\W\d_]+|\d+", apart.lower())
    words = [word.removesuffix("s") if word.removesuffix("s") in _NOUNS else word for word in found]
    split = (re.fullmatch(rf"({'|'.join(_NOUNS)})([a-h])|(both)(good|bad)", word) for word in words)
    return [
        part
        for word, match in zip(words, split, strict=True)
        for part in (filter(None, match.groups()) if match else (word,))
    ]


def _side_in(words: list[str]) -> Verdict | None:
    marks = [word for word in words if word not in _NOUNS]
    if len(marks) == 2 and marks[1] == "one":  # "the left one"
        marks = marks[:1]
    if len(marks) != 1:
        return None
    return next((side for side, known in _SIDES.items() if marks[0] in known), None)


def _preferred_to(words: list[str]) -> Verdict | None:
    before, after = words[: words.index("than")], words[words.index("than") + 1 :]
    if _PRAISE.isdisjoint(before):
        return None
    first, second = _side_in([word for word in before if word not in _PRAISE | _SMALL]), _side_in(after)
    return first if first and second and first is not second else None


def _compared(one: str, sign: str, other: str) -> Verdict | None:
    first, second = (Verdict.ANSWER1 if mark in "a1" else Verdict.ANSWER2 for mark in (one, other))
    if first is second:
        return None
    if sign[0] in "=≈~":
        return Verdict.TIE
    return first if sign[0] == ">" else second


_RANKS = {"tier", "rank", "place", "position", "top", "choice", "priority"}
_SCORES = {"score", "stars", "star", "points", "point", "rating", "level"}
_LADDERS = (
    (
        "best",
        "better",
        "good",
        "ok",
        "okay",
        "fair",
        "medium",
        "acceptable",
        "mediocre",
        "poor",
        "bad",
        "worse",
        "worst",
    ),
    ("excellent", "verygood", "good", "average", "poor", "verypoor", "terrible"),
    ("high", "medium", "low"),
    ("top", "middle", "bottom"),
    ("first", "second", "third", "fourth", "fifth"),
    ("gold", "silver", "bronze"),
    ("preferred", "neutral", "notpreferred"),
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("accept", "reject"),
    ("correct", "incorrect"),
    ("right", "wrong"),
    ("helpful", "unhelpful"),
    ("acceptable", "unacceptable"),
)


def bucket_order(names: Sequence[str], titles: Sequence[str]) -> tuple[str, ...] | None:
    """A Ranker's Buckets, best first, where their names or titles say so; empty without Buckets, None if unknown."""
    if len(names) < 2:
        return tuple(names)
    for called in (names, titles):
        places = _places([_words(name) for name in called])
        if places:
            return tuple(name for _, name in sorted(zip(places, names, strict=True)))
    return None


def _places(called: Sequence[list[str]]) -> list[int] | None:
    """The place of each name, 0 the best; None unless all have one and no two the same."""
    plain = ["".join(word for word in words if word not in _NOUNS) for words in called]
    for ladder in _LADDERS:
        if len(set(plain)) == len(plain) and set(plain) <= set(ladder):
            return [ladder.index(word) for word in plain]
    numbers = [[int(word) for word in words if word.isdecimal() and len(word) < 10] for words in called]
    stems = {word for words in called for word in words if not word.isdecimal()} - _NOUNS
    if any(len(found) != 1 for found in numbers) or len({found[0] for found in numbers}) != len(numbers):
        return None
    if stems <= _RANKS:
        return [found[0] for found in numbers]
    return [-found[0] for found in numbers] if stems and stems <= _SCORES else None
