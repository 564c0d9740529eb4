"""Pairs of answers from two different versions, with people's votes on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from training.data import JudgedAnswer, Judgement, Prompt, Verdict

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_SHARES = {Verdict.ANSWER1: 1.0, Verdict.ANSWER2: 0.0, Verdict.TIE: 0.5}


@dataclass(frozen=True, slots=True)
class Meeting:
    """One pair of answers to one prompt, each written by another version.

    one, other: the versions; `one` is the first by its name.
    votes: for each person's vote, in the order in which they were cast, 1 if it prefers the answer of `one`, 0 if that
        of `other`, 0.5 for a tie.
    lengths: characters of the answers of `one` and `other`.
    """

    one: str
    other: str
    prompt: Prompt
    votes: tuple[float, ...]
    lengths: tuple[int, int]

    @property
    def share(self) -> float:
        """The share of its votes that `one` got; a tie counts half."""
        return sum(self.votes) / len(self.votes)

    def score_of(self, version: str, votes: int | None = None) -> float:
        """The share that one of its versions got of the first `votes` votes, or of all."""
        counted = self.votes[:votes]
        share = sum(counted) / len(counted)
        return share if version == self.one else 1 - share


def meetings_in(
    judgements: Iterable[Judgement], moment_of: Callable[[str | None], datetime | None] = lambda _: None
) -> list[Meeting]:
    """The pairs of answers by different versions, each once, however many people judged it.

    Answers whose author isn't known, or that a person rewrote, say nothing about a version; nor do pairs of one version
    and verdicts that call both answers bad. A pair that is shown once more was counted when it was first judged.

    Args:
        judgements: of any kind.
        moment_of: reads `Judgement.updated_at`; votes are ordered by it, then by the annotation's id.

    Returns:
        The meetings by their first votes.
    """
    found: dict[tuple[Prompt, tuple[tuple[str, str], ...]], list[tuple[tuple[datetime, int], float]]] = defaultdict(
        list
    )
    for judgement in judgements:
        authors = [_author(answer) for answer in (judgement.answer1, judgement.answer2)]
        texts = [judgement.answer1.text, judgement.answer2.text]
        if judgement.repeat or None in authors or authors[0] == authors[1] or texts[0] == texts[1]:
            continue
        if judgement.verdict not in _SHARES:
            continue
        sides = [(str(author), text) for author, text in zip(authors, texts, strict=True)]
        share = _SHARES[judgement.verdict]
        when = (moment_of(judgement.updated_at) or _LONG_AGO, judgement.annotation_id or 0)
        vote = share if sides[0] < sides[1] else 1 - share
        found[(judgement.prompt, tuple(sorted(sides)))].append((when, vote))
    ordered = sorted(found.items(), key=lambda item: (min(item[1])[0], item[0][1]))
    return [
        Meeting(
            one=sides[0][0],
            other=sides[1][0],
            prompt=prompt,
            votes=tuple(vote for _, vote in sorted(votes, key=lambda cast: cast[0])),
            lengths=(len(sides[0][1]), len(sides[1][1])),
        )
        for (prompt, sides), votes in ordered
    ]


def _author(answer: JudgedAnswer) -> str | None:
    return None if answer.edited else answer.model_version
