"""A line's versions by strength: Bradley-Terry, from all pairs of answers that two of them wrote and people judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ml_backend.contest.meetings import Meeting
from ml_backend.contest.wealth import Array

BOOTSTRAPS = 300
PRIOR_VARIANCE = 25.0
"""Of the strengths, in log-odds: so weak that it only keeps the strength of a version that never lost finite."""
_CHARACTERS = 100.0
_MOST_AT_ONCE = 2_000_000  # pairs times draws, which bounds the memory
_MOST_STEPS, _LONGEST_STEP, _CLOSE_ENOUGH = 100, 2.0, 1e-6
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Standing:
    """A version's place.

    strength: log-odds with which people prefer its answers to those of the reference.
    interval: of 95%, by drawing prompts anew with replacement.
    length_adjusted, length_adjusted_interval: the same between answers of equal length.
    pairs, votes: of those that it took part in.
    """

    version: str
    strength: float
    interval: tuple[float, float]
    length_adjusted: float
    length_adjusted_interval: tuple[float, float]
    pairs: int
    votes: int


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Best first. `reference` has strength 0: the line's oldest version among them.

    votes_to_turn: how few votes, if they had gone the other way, give another version the first place.
    unconnected: versions that no chain of judged pairs compares with the others.
    """

    versions: tuple[Standing, ...] = ()
    reference: str | None = None
    votes_to_turn: int | None = None
    unconnected: tuple[str, ...] = ()
    sentence: str = ""

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def rank_versions(meetings: Iterable[Meeting], *, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Leaderboard:
    """The leaderboard of a line.

    Each pair counts once, with the share of its votes, so that a pair that ten people judged weighs no more than
    another. Of versions that aren't compared with each other, only those with the most pairs are ranked.

    References: Bradley and Terry 1952, "Rank analysis of incomplete block designs"; Dubois et al. 2024, "Length-
    controlled AlpacaEval" (2404.04475), for the length as a covariate.
    """
    found = list(meetings)
    names = _connected(found)
    others = {version for meeting in found for version in (meeting.one, meeting.other)} - set(names)
    known = [meeting for meeting in found if meeting.one in names]
    if not known:
        return Leaderboard(sentence="Nobody has judged a pair of answers by two versions yet.")
    table = _Table(known, names)
    plain, adjusted = table.strengths()[0], table.strengths(lengths=True)[0]
    draws, adjusted_draws = _bootstrap(table, known, bootstraps, seed)
    counted = _counts(known)
    places = [
        Standing(
            name,
            float(plain[place]),
            _spread(draws[:, place]),
            float(adjusted[place]),
            _spread(adjusted_draws[:, place]),
            *counted[name],
        )
        for place, name in enumerate(names)
    ]
    places.sort(key=lambda place: (-place.strength, _number(place.version)))
    turn = _votes_to_turn(known, names, places[0].version)
    told = _sentence(places, names[0], turn, sorted(others, key=_number))
    return Leaderboard(tuple(places), names[0], turn, tuple(sorted(others, key=_number)), told)


class _Table:
    """The pairs as a logistic regression: who met whom, who won, and how much longer the first one's answer is."""

    def __init__(self, meetings: Sequence[Meeting], names: Sequence[str]) -> None:
        place = {name: index for index, name in enumerate(names)}
        self.names = names
        self.met = np.zeros((len(meetings), len(names)))
        for row, meeting in enumerate(meetings):
            self.met[row, place[meeting.one]], self.met[row, place[meeting.other]] = 1.0, -1.0
        self.shares = np.array([meeting.share for meeting in meetings])
        self.longer = np.array([(one - other) / _CHARACTERS for one, other in (m.lengths for m in meetings)])

    def strengths(self, weights: Array = None, shares: Array = None, *, lengths: bool = False) -> Array:
        """(draws, versions): each version's strength over the first one's.

        Args:
            weights: (draws, pairs), how often each pair counts; None for one draw in which each counts once.
            shares: (pairs,), other shares than those that people gave.
            lengths: take out what the difference in length explains.
        """
        features = np.column_stack([self.met[:, 1:], self.longer]) if lengths else self.met[:, 1:]
        weight = np.ones((1, len(self.shares))) if weights is None else weights
        found = _regression(features, self.shares if shares is None else shares, weight)
        return np.column_stack([np.zeros(len(found)), found[:, : len(self.names) - 1]])


def _regression(features: Array, shares: Array, weights: Array) -> Array:
    """(draws, features): a logistic regression with a weak normal prior for each row of weights, by Newton's method.

    The prior makes the loss strictly convex; steps are kept short, as full ones may overshoot where one side won all.
    """
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    number = features.shape[1]
    found = np.zeros((len(weights), number))
    for _ in range(_MOST_STEPS):
        likely = np.exp(-np.logaddexp(0, -found @ features.T))  # the logistic function, without overflow
        slope = (weights * (shares - likely)) @ features - found / PRIOR_VARIANCE
        curve = ((weights * likely * (1 - likely)) @ products).reshape(-1, number, number)
        step = np.linalg.solve(curve + np.eye(number) / PRIOR_VARIANCE, slope[..., None])[..., 0]
        found += np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CLOSE_ENOUGH:
            break
    return found


def _bootstrap(table: _Table, meetings: Sequence[Meeting], bootstraps: int, seed: int) -> tuple[Array, Array]:
    """(bootstraps, versions) twice: strengths, plain and length-adjusted, over prompts drawn with replacement."""
    prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(meeting.prompt for meeting in meetings))}
    group = np.array([prompts[meeting.prompt] for meeting in meetings])
    dice = np.random.default_rng(seed)
    plain, adjusted = [], []
    at_once = max(1, _MOST_AT_ONCE // len(meetings))
    for start in range(0, bootstraps, at_once):
        drawn = dice.multinomial(len(prompts), [1 / len(prompts)] * len(prompts), min(at_once, bootstraps - start))
        plain.append(table.strengths(drawn[:, group]))
        adjusted.append(table.strengths(drawn[:, group], lengths=True))
    return np.concatenate(plain), np.concatenate(adjusted)


def _spread(draws: Array) -> tuple[float, float]:
    """The middle 95% of a strength's draws; both ends are 0 for the reference, whose strength is 0 by definition."""
    low, high = np.percentile(draws, _INTERVAL)
    return float(low), float(high)


def _connected(meetings: Sequence[Meeting]) -> list[str]:
    """The versions of the largest group that judged pairs connect, oldest first."""
    pairs: Counter[str] = Counter()
    group: dict[str, str] = {}

    def root(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    for meeting in meetings:
        group[root(meeting.one)] = root(meeting.other)
    for meeting in meetings:
        pairs[root(meeting.one)] += 1
    if not pairs:
        return []
    largest = max(sorted(pairs), key=lambda name: pairs[name])
    return sorted((name for name in group if root(name) == largest), key=_number)


def _counts(meetings: Sequence[Meeting]) -> dict[str, tuple[int, int]]:
    """How many pairs and votes each version took part in."""
    pairs: Counter[str] = Counter()
    votes: Counter[str] = Counter()
    for meeting in meetings:
        for version in (meeting.one, meeting.other):
            pairs[version] += 1
            votes[version] += len(meeting.votes)
    return {version: (pairs[version], votes[version]) for version in pairs}


def _votes_to_turn(meetings: Sequence[Meeting], names: Sequence[str], first: str) -> int | None:
    """How few votes put another version first, if they had gone against the first one; None if none ever would.

    For each rival, votes on pairs with it are turned first, those that weigh most before the others. That is the fewest
    where only two versions met, and otherwise enough, if not always the fewest.
    """
    fewest: list[int] = []
    table, leader = _Table(meetings, names), names.index(first)
    for rival in (name for name in names if name != first):
        votes = _against(meetings, first, rival)
        low, high = 0, len(votes)
        if not _is_overtaken(table, votes, leader):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _is_overtaken(table, votes[:middle], leader) else (middle, high)
        fewest.append(high)
    return min(fewest, default=None)


def _against(meetings: Sequence[Meeting], first: str, rival: str) -> list[tuple[int, float]]:
    """The votes that the first version can lose, each with its pair and what turning it changes in the pair's share."""
    found: list[tuple[bool, float, int, float]] = []
    for row, meeting in enumerate(meetings):
        if first in (meeting.one, meeting.other):
            sign = 1.0 if meeting.one == first else -1.0
            for vote in meeting.votes:
                gain = (vote if sign > 0 else 1 - vote) / len(meeting.votes)
                if gain:
                    found.append((rival not in (meeting.one, meeting.other), -gain, row, -sign * gain))
    return [(row, change) for _, _, row, change in sorted(found)]


def _is_overtaken(table: _Table, votes: Sequence[tuple[int, float]], leader: int) -> bool:
    shares = table.shares.copy()
    for row, change in votes:
        shares[row] += change
    strengths = table.strengths(shares=np.clip(shares, 0.0, 1.0))[0]
    return bool(strengths.max() > strengths[leader] + _CLOSE_ENOUGH)


def _number(version: str) -> tuple[int, str]:
    number = version.rpartition("-v")[2]
    return (int(number) if number.isdecimal() else 0, version)


def _sentence(places: Sequence[Standing], reference: str, turn: int | None, others: Sequence[str]) -> str:
    first, second = places[0], places[1]
    odds = float(1 / (1 + np.exp(second.strength - first.strength)))
    said = f"{first.version} is first: people prefer its answers to those of {second.version} {odds:.0%} of the time."
    if turn is not None:
        said += f" {turn} vote{'' if turn == 1 else 's'} the other way would have put another version first."
    said += f" Strengths are log-odds over {reference}."
    if others:
        said += f" Not compared with these: {', '.join(others)}."
    return said
