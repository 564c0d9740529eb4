"""Figures about each person: agreement with the others, with the reward model and with themself; sides; seconds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from ml_backend.people.agreement import Interval, Votes, exact_interval
from training.data import Judgement, PairKey, Verdict, pair_of
from training.evaluation import accuracy_with_interval


@dataclass(frozen=True, slots=True)
class Share:
    """A share of something, its 95% interval, and of how many; `value` and `interval` are None of nothing."""

    value: float | None
    interval: Interval | None
    count: float
    total: int


@dataclass(frozen=True, slots=True)
class Person:
    """One person's judgements in figures.

    annotator: the id or address that Label Studio knows.
    judgements: verdicts, one a pair for a ranking.
    agreement: with the others, on average over the pairs shared with them.
    by_chance: what it would be if both sides had drawn their verdicts from a hat, each as often as they give them.
    with_reward_model: verdicts with a winner that the reward model shares, of pairs it didn't learn from.
    left: verdicts for the left answer, of those for one side, where the loop shuffles sides.
    left_given: the same where the task's own data say what stands on which side.
    ties: verdicts that are ties.
    seconds: of each annotation, as the labeling page measured them.
    untouched: annotations that say what was preselected, of those with something preselected.
    self_agreement: twos of the person's own verdicts on one pair, shown again, that are equal.
    """

    annotator: str
    judgements: int
    agreement: Share
    by_chance: float | None
    with_reward_model: Share
    left: Share
    left_given: Share
    ties: float
    seconds: Sequence[float]
    untouched: Share
    self_agreement: Share

    @property
    def seconds_median(self) -> float | None:
        """The median of `seconds`."""
        return float(median(self.seconds)) if self.seconds else None


def people_in(judgements: Sequence[Judgement], votes: Votes, first_is_better: Mapping[PairKey, float]) -> list[Person]:
    """Everyone who judged, most judgements first.

    Args:
        judgements: all of them.
        votes: the same, by pair.
        first_is_better: the reward model's log-odds that the first text of a pair's key is the better one, for pairs it
            didn't learn from.
    """
    by_person: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_person[judgement.annotator].append(judgement)
    voted: dict[str, list[PairKey]] = defaultdict(list)
    for pair, found in votes.items():
        if len(found) > 1:
            for annotator in found:
                voted[annotator].append(pair)
    names = sorted(by_person, key=lambda name: (-len(by_person[name]), name))
    return [_person(name, by_person[name], voted[name], votes, first_is_better) for name in names]


def _person(
    name: str,
    own: Sequence[Judgement],
    shared: Sequence[PairKey],
    votes: Votes,
    first_is_better: Mapping[PairKey, float],
) -> Person:
    annotations = list({judgement.annotation_id or id(judgement): judgement for judgement in own}.values())
    return Person(
        annotator=name,
        judgements=len(own),
        agreement=_with_others(name, shared, votes),
        by_chance=_by_chance(name, shared, votes),
        with_reward_model=_with_reward_model(own, first_is_better),
        left=_left(annotations, "shuffled"),
        left_given=_left(annotations, "given"),
        ties=sum(judgement.verdict is Verdict.TIE for judgement in own) / len(own),
        seconds=[one.lead_time for one in annotations if one.lead_time is not None and one.lead_time > 0],
        untouched=share_of([one.untouched for one in annotations if one.untouched is not None]),
        self_agreement=_with_themself(own),
    )


def share_of(outcomes: Iterable[bool]) -> Share:
    """The share of outcomes that are true, with its exact interval."""
    found = list(outcomes)
    count, total = sum(found), len(found)
    return Share(count / total if total else None, exact_interval(count, total), count, total)


def _mean_share(shares: Sequence[float]) -> Share:
    """The mean of shares in [0, 1], each of a pair of its own, with Wilson's interval."""
    value, interval = accuracy_with_interval(sum(shares), len(shares))
    return Share(value, interval if shares else None, sum(shares), len(shares))


def _with_others(name: str, shared: Sequence[PairKey], votes: Votes) -> Share:
    shares = []
    for pair in shared:
        others = [verdict for other, verdict in votes[pair].items() if other != name]
        shares.append(others.count(votes[pair][name]) / len(others))
    return _mean_share(shares)


def _by_chance(name: str, shared: Sequence[PairKey], votes: Votes) -> float | None:
    own = Counter(votes[pair][name] for pair in shared)
    theirs = Counter(verdict for pair in shared for other, verdict in votes[pair].items() if other != name)
    if not own:
        return None
    return sum(own[kind] * theirs[kind] for kind in own) / (own.total() * theirs.total())


def _with_reward_model(own: Sequence[Judgement], first_is_better: Mapping[PairKey, float]) -> Share:
    found: dict[PairKey, bool] = {}
    for judgement in own:
        pair = pair_of(judgement)
        winner = _winner(judgement)
        if winner is not None and first_is_better.get(pair):
            found[pair] = (first_is_better[pair] > 0) == (winner == pair[1])
    return share_of(found.values())


def _left(annotations: Sequence[Judgement], sides: str) -> Share:
    chosen = [one.verdict for one in annotations if one.sides == sides]
    return share_of(verdict is Verdict.ANSWER1 for verdict in chosen if verdict in (Verdict.ANSWER1, Verdict.ANSWER2))


def _with_themself(own: Sequence[Judgement]) -> Share:
    """Over pairs judged more than once: each counts once, however often it was shown."""
    said: dict[PairKey, list[str | None]] = defaultdict(list)
    for judgement in own:
        said[pair_of(judgement)].append(_winner(judgement))
    shares = []
    for verdicts in said.values():
        twos = list(combinations(verdicts, 2))
        if twos:
            shares.append(sum(one == other for one, other in twos) / len(twos))
    return _mean_share(shares)


def _winner(judgement: Judgement) -> str | None:
    """The text of the answer that won; None for a tie."""
    answers = {Verdict.ANSWER1: judgement.answer1, Verdict.ANSWER2: judgement.answer2}
    return answers[judgement.verdict].text if judgement.verdict in answers else None
