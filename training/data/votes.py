"""Aggregates annotators' votes into preferences, whichever answer was on the left."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import TypeVar

from training.data.prompts import Prompt, prompt_as_json
from training.data.types import Demonstration, JudgedAnswer, Judgement, Preference, PreferenceSource, Verdict

Value = TypeVar("Value", bound=Hashable)
PairKey = tuple[Prompt, str, str]
"""A prompt and two answers; of votes, in alphabetical order."""


def aggregate(judgements: Iterable[Judgement]) -> list[Preference]:
    """Combine all votes on each pair of answers, whichever was on the left, into one preference per pair.

    A tie counts as half a vote for each. Judgements that don't say which answer is better (both bad, identical texts,
    a blank answer that didn't lose) are left out. Who judged a pair again when it was shown once more has one vote, the
    newest. The result doesn't depend on the judgements' order.

    Returns:
        Preferences sorted by prompt, then answers.
    """
    ballots = _ballots(judgements)
    return [_preference(key, ballots[key]) for key in sorted(ballots, key=_by_text)]


def pair_of(judgement: Judgement) -> PairKey:
    """What identifies the pair that a judgement is about, whichever answer was on the left."""
    texts = judgement.answer1.text, judgement.answer2.text
    return judgement.prompt, min(texts), max(texts)


def agreement(judgements: Iterable[Judgement]) -> float | None:
    """How often annotators agree: of any two people's votes on the same pair of answers, the share that are equal.

    Returns:
        A share in [0, 1], or None if no pair was judged by two people.
    """
    same = total = 0
    for key, votes in _ballots(judgements).items():
        for one, other in combinations(votes, 2):
            if one.annotator != other.annotator:
                total += 1
                same += _share_for(key[1], one) == _share_for(key[1], other)
    return same / total if total else None


def rewrites_from(judgements: Iterable[Judgement]) -> list[Preference]:
    """A rewritten answer beats what it was written over, whatever became of it against the other answer.

    `votes` counts the people's judgements that hold the same rewrite; `source.rewrite` marks each preference.

    Returns:
        Preferences sorted by prompt, then answers.
    """
    found: dict[PairKey, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        for answer in {judgement.answer1, judgement.answer2}:
            before = answer.proposed
            if before is not None and answer.text.strip() and answer.text.split() != before.split():
                found[(judgement.prompt, answer.text, before)].append(judgement)
    return [_rewrite(key, found[key]) for key in sorted(found, key=_by_text)]


def demonstrations_from(judgements: Iterable[Judgement]) -> list[Demonstration]:
    """The answers that people rewrote and did not rank below the other, for supervised training to imitate."""
    found = set()
    for judgement in judgements:
        for answer, loses in ((judgement.answer1, Verdict.ANSWER2), (judgement.answer2, Verdict.ANSWER1)):
            if answer.edited and answer.text.strip() and judgement.verdict not in (loses, Verdict.BOTH_BAD):
                found.add((judgement.prompt, answer.text))
    return [Demonstration(prompt, answer) for prompt, answer in sorted(found, key=_by_text)]


def dataset_digest(preferences: Iterable[Preference]) -> str:
    """A fingerprint of what training sees (texts and votes), whatever the order and whoever voted.

    Returns:
        64 hexadecimal digits.
    """
    rows = sorted(
        json.dumps([prompt_as_json(p.prompt), p.chosen, p.rejected, p.p_chosen, p.votes]) for p in preferences
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _rewrite(key: PairKey, judgements: Sequence[Judgement]) -> Preference:
    prompt, after, before = key
    people = sorted({judgement.annotator for judgement in judgements})
    answers = [answer for judgement in judgements for answer in (judgement.answer1, judgement.answer2)]
    authors = {answer.model_version for answer in answers if (answer.text, answer.proposed) == (after, before)}
    numbers = {judgement.annotation_id for judgement in judgements if judgement.annotation_id is not None}
    return Preference(
        prompt=prompt,
        chosen=after,
        rejected=before,
        votes=len(judgements),
        annotators=tuple(people),
        source=PreferenceSource(
            project_id=_if_all_agree(judgement.project_id for judgement in judgements),
            task_id=_if_all_agree(judgement.task_id for judgement in judgements),
            annotation_ids=tuple(sorted(numbers)),
            rejected_version=_if_all_agree(authors),
            rewrite=True,
        ),
    )


def _by_text(key: tuple[Prompt, *tuple[str, ...]]) -> tuple[str, ...]:
    """A sort key for prompts of both forms."""
    prompt, *texts = key
    return (prompt if isinstance(prompt, str) else json.dumps(prompt_as_json(prompt)), *texts)


def _ballots(judgements: Iterable[Judgement]) -> dict[PairKey, list[Judgement]]:
    ballots: dict[PairKey, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        texts = judgement.answer1.text, judgement.answer2.text
        says_something = judgement.verdict is not Verdict.BOTH_BAD and texts[0] != texts[1]
        if says_something and all(text.strip() or _share_for(text, judgement) == 0 for text in texts):
            ballots[pair_of(judgement)].append(judgement)
    return {pair: _one_vote_each(votes) for pair, votes in ballots.items()}


def _one_vote_each(votes: list[Judgement]) -> list[Judgement]:
    """Without the earlier verdicts of those who judged a pair once more; others keep all they gave."""
    again = {vote.annotator for vote in votes if vote.repeat}
    newest = {vote.annotator: vote for vote in sorted(votes, key=_age) if vote.annotator in again}
    return [vote for vote in votes if newest.get(vote.annotator, vote) is vote]


def _age(vote: Judgement) -> tuple[str, int]:
    return vote.updated_at or "", vote.annotation_id or 0


def _share_for(text: str, judgement: Judgement) -> float:
    """How much of one vote goes to an answer: 1, 0, or 0.5 for a tie."""
    if judgement.verdict is Verdict.TIE:
        return 0.5
    preferred = judgement.answer1 if judgement.verdict is Verdict.ANSWER1 else judgement.answer2
    return float(preferred.text == text)


def _preference(key: PairKey, votes: Sequence[Judgement]) -> Preference:
    prompt, first, second = key
    for_first = sum(_share_for(first, vote) for vote in votes)
    shuffled = [vote for vote in votes if vote.sides == "shuffled"]  # a side that wasn't drawn by lot means something
    chosen, rejected = (first, second) if 2 * for_first >= len(votes) else (second, first)
    return Preference(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=max(for_first, len(votes) - for_first) / len(votes),
        votes=len(votes),
        annotators=tuple(sorted({vote.annotator for vote in votes})),
        source=PreferenceSource(
            project_id=_if_all_agree(vote.project_id for vote in votes),
            task_id=_if_all_agree(vote.task_id for vote in votes),
            annotation_ids=tuple(sorted({vote.annotation_id for vote in votes if vote.annotation_id is not None})),
            chosen_version=_if_all_agree(_author(chosen, vote) for vote in votes),
            rejected_version=_if_all_agree(_author(rejected, vote) for vote in votes),
            left_votes=sum(vote.verdict is Verdict.ANSWER1 for vote in shuffled),
            right_votes=sum(vote.verdict is Verdict.ANSWER2 for vote in shuffled),
            selection=_if_all_agree(vote.selection for vote in votes),
        ),
    )


def _author(text: str, judgement: Judgement) -> str | None:
    """The version that wrote a text; None if a person rewrote it."""
    answer: JudgedAnswer = judgement.answer1 if judgement.answer1.text == text else judgement.answer2
    return None if answer.edited else answer.model_version


def _if_all_agree(values: Iterable[Value]) -> Value | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
