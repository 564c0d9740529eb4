"""What the page of a line shows: its versions with their figures, the contest, the leaderboard, the people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ml_backend.page.facts import LineFacts
from ml_backend.page.opinions import Document, Opinions
from ml_backend.registry import Attempt, Version

Interval = Sequence[float] | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version's figures; None where nobody measured one.

    roles: `base`, `champion`, `challenger`: what it is to its line.
    accuracy: of its reward model on pairs it didn't learn from; `agreement` of two people, which bounds it.
    preferred: how often people prefer its answers to the base's, by the leaderboard.
    win_rate: the same by its own reward model's judges.
    promoted_at: when it last became champion, in seconds since 1970 or ISO 8601.
    """

    name: str
    number: int
    roles: tuple[str, ...]
    accuracy: float | None
    accuracy_interval: Interval
    agreement: float | None
    kl_nats: float | None
    preferred: float | None
    preferred_interval: Interval
    win_rate: float | None
    win_rate_interval: Interval
    answer_tokens: float | None
    base_answer_tokens: float | None
    annotations: float | None
    created_at: float
    promoted_at: float | str | None
    pruned: bool


@dataclass(frozen=True, slots=True)
class LineView:
    """A line: its versions, newest first, and what people say."""

    name: str
    versions: tuple[VersionRow, ...]
    champion: VersionRow | None
    previous: str | None
    challenger: str | None
    attempts: tuple[Attempt, ...]
    people: Document | None
    contest: Document | None
    leaderboard: Document | None

    @property
    def bound(self) -> str:
        """How accurate the champion's reward model is, and what bounds it, in a sentence; empty without either."""
        row, people = self.champion, self.people or {}
        agreement = people.get("pairwise")
        if agreement is None and row is not None:
            agreement = row.agreement
        if row is None or row.accuracy is None:
            return "" if agreement is None else f"Two people choose the same answer on {agreement:.0%} of pairs."
        model = f"The champion's reward model ranks {row.accuracy:.0%} of pairs correctly"
        if agreement is None:
            return f"{model}. Nothing bounds that yet: no two people have judged the same pair."
        return (
            f"{model}; two people choose the same answer on {agreement:.0%} of pairs, and no reward model can agree "
            "with people much more often than they agree with each other."
        )


def view_line(name: str, facts: LineFacts) -> LineView:
    """What a line's page shows."""
    opinions = facts.opinions
    champion = facts.champions[-1] if facts.champions else None
    challenger = facts.challenger
    promoted = _promotions(facts.attempts)
    rows = tuple(
        version_row(version, roles_of(version, champion, challenger), opinions, promoted.get(version.name))
        for version in sorted(facts.versions, key=lambda version: -version.number)
    )
    return LineView(
        name=name,
        versions=rows,
        champion=next((row for row in rows if row.name == champion), None),
        previous=facts.champions[-2] if len(facts.champions) > 1 else None,
        challenger=challenger,
        attempts=facts.attempts,
        people=opinions.people,
        contest=opinions.contest,
        leaderboard=opinions.leaderboard,
    )


def roles_of(version: Version, champion: str | None, challenger: str | None) -> tuple[str, ...]:
    """What a version is to its line."""
    said = {
        "champion": version.name == champion,
        "challenger": version.name == challenger,
        "base": version.tags.get("kind") == "base",
    }
    return tuple(role for role, is_so in said.items() if is_so)


def version_row(
    version: Version, roles: tuple[str, ...], opinions: Opinions, ended_at: float | None = None
) -> VersionRow:
    """A version's figures.

    Args:
        version: the version.
        roles: what it is to its line.
        opinions: what people say there.
        ended_at: when a cycle promoted it, for versions from before promotions were noted.
    """
    figures = version.metrics
    preferred, preferred_interval = (None, None) if "base" in roles else _preferred(version.name, opinions)
    return VersionRow(
        name=version.name,
        number=version.number,
        roles=roles,
        accuracy=figures.get("reward_accuracy", figures.get("reward_accuracy_selection")),
        accuracy_interval=_interval(figures, "reward_accuracy_low", "reward_accuracy_high"),
        agreement=figures.get("agreement"),
        kl_nats=figures.get("kl_nats"),
        preferred=preferred,
        preferred_interval=preferred_interval,
        win_rate=figures.get("win_rate_vs_base"),
        win_rate_interval=_interval(figures, "win_rate_low", "win_rate_high"),
        answer_tokens=figures.get("answer_tokens"),
        base_answer_tokens=figures.get("base_answer_tokens"),
        annotations=figures.get("annotations"),
        created_at=version.created_at,
        promoted_at=version.promoted_at or ended_at,
        pruned=version.pruned_at is not None,
    )


def _interval(figures: Mapping[str, float], low: str, high: str) -> Interval:
    return (figures[low], figures[high]) if low in figures and high in figures else None


def _preferred(name: str, opinions: Opinions) -> tuple[float | None, Interval]:
    """How often people prefer a version to the base: strengths are log-odds over the base."""
    found = next((entry for entry in opinions.entries if entry["version"] == name), None)
    if found is None or found["strength"] is None:
        return None, None
    ends = found["interval"]
    return _from_odds(found["strength"]), None if ends is None else (_from_odds(ends[0]), _from_odds(ends[1]))


def _from_odds(log_odds: float) -> float:
    """A probability from its log-odds, whatever their size."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def _promotions(attempts: Sequence[Attempt]) -> dict[str, float]:
    """When cycles promoted their versions."""
    return {
        attempt.tags["version"]: attempt.ended_at or attempt.began_at
        for attempt in attempts
        if attempt.status == "promoted" and attempt.tags.get("version")
    }
