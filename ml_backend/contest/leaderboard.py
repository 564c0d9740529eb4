"""A line's versions by strength: Bradley-Terry, from all pairs of answers that two of them wrote and people judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ml_backend.contest.meetings import Meeting

BOOTSTRAPS = 300
PRIOR_VARIANCE = 25.0
"""Of the strengths, in log-odds: so weak that it only keeps the strength of a version that never lost finite."""
_CHARACTERS = 100.0
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
    plain, adjusted = table.strengths(), table.strengths(lengths=True)
    draws = _bootstrap(table, known, bootstraps, seed)
    counted = _counts(known)
    places = [
        Standing(name, plain[i], _spread(draws[:, 0, i]), adjusted[i], _spread(draws[:, 1, i]), *counted[name])
        for i, name in enumerate(names)
    ]
    places.sort(key=lambda place: (-place.strength, _number(place.version)))
    turn = _votes_to_turn(known, names, places[0].version)
    told = _sentence(places, names[0], turn, sorted(others, key=_number))
    return Leaderboard(tuple(places), names[0], turn, tuple(sorted(others, key=_number)), told)


class _Table:
    """The pairs as a logistic regression: who met whom, who won, and how much longer the winner's answer is."""

    def __init__(self, meetings: Sequence[Meeting], names: Sequence[str]) -> None:
        place = {name: index for index, name in enumerate(names)}
        self.names = names
        self.met = np.zeros((len(meetings), len(names)))
        for row, meeting in enumerate(meetings):
            self.met[row, place[meeting.one]], self.met[row, place[meeting.other]] = 1.0, -1.0
        self.shares = np.array([meeting.share for meeting in meetings])
        self.longer = np.array([(one - other) / _CHARACTERS for one, other in (m.lengths for m in meetings)])

    def strengths(self, weights: Any = None, shares: Any = None, *, lengths: bool = False) -> list[float]:
        """Each version's strength over the first one's."""
        from sklearn.linear_model import LogisticRegression

        features = np.column_stack([self.met[:, 1:], self.longer]) if lengths else self.met[:, 1:]
        share = self.shares if shares is None else shares
        weight = np.ones(len(share)) if weights is None else weights
        model = LogisticRegression(C=PRIOR_VARIANCE, fit_intercept=False, tol=1e-6, max_iter=1000)
        won = np.repeat([1, 0], len(share))
        model.fit(
            np.vstack([features, features]), won, sample_weight=np.concatenate([share, 1 - share]) * np.tile(weight, 2)
        )
        return [0.0, *(float(value) for value in model.coef_[0][: len(self.names) - 1])]


def _bootstrap(table: _Table, meetings: Sequence[Meeting], bootstraps: int, seed: int) -> Any:
    """(bootstraps, 2, versions): strengths, plain and length-adjusted, over prompts drawn with replacement."""
    prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(meeting.prompt for meeting in meetings))}
    group = np.array([prompts[meeting.prompt] for meeting in meetings])
    dice = np.random.default_rng(seed)
    draws = []
    for _ in range(bootstraps):
        weights = np.bincount(dice.integers(len(prompts), size=len(prompts)), minlength=len(prompts))[group]
        draws.append([table.strengths(weights), table.strengths(weights, lengths=True)])
    return np.array(draws).reshape(bootstraps, 2, len(table.names))


def _spread(draws: Any) -> tuple[float, float]:
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
    strengths = table.strengths(shares=np.clip(shares, 0.0, 1.0))
    return max(strengths) > strengths[leader] + 1e-4


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
