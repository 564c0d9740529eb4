"""Champion against challenger: what people's verdicts say so far, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ml_backend.contest.meetings import Meeting
from ml_backend.contest.wealth import ALPHA, bounds, further, log_wealth

Decision = Literal["promote", "reject", "more", "none"]
_LARGEST_LOG = 50.0
FEWEST_TO_FORESEE = 10
"""From how many pairs on it is said how many more are needed."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Where a contest stands. `none` is the decision where there is no challenger.

    pairs: how many were judged to the end, one observation each.
    wins, losses, ties: pairs that the challenger won, lost, or tied by its share of their votes.
    votes: on all pairs between the two, also those that aren't counted yet.
    waiting: pairs that haven't got all the votes yet that they are to have.
    share: of the challenger, a tie counting half.
    interval: of that share; each end holds with 95%, however often one looks.
    needed: roughly how many further pairs decide.
    better, worse: the test's evidence that the challenger is better, or worse, as wealth that began as 1; 20 decides.
    sentence: all of it in words.
    """

    champion: str
    challenger: str | None
    pairs: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    votes: int = 0
    waiting: int = 0
    share: float | None = None
    interval: tuple[float, float] | None = None
    decision: Decision = "none"
    needed: int | None = None
    better: float = 1.0
    worse: float = 1.0
    sentence: str = ""

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "interval": list(self.interval) if self.interval else None}


def no_contest(champion: str) -> Contest:
    """A line without a challenger."""
    return Contest(champion, None, sentence=f"No version challenges {champion}.")


def decide(
    champion: str,
    challenger: str,
    meetings: Iterable[Meeting],
    *,
    most_pairs: int,
    votes_per_pair: int = 1,
    alpha: float = ALPHA,
) -> Contest:
    """What the verdicts on the pairs between two versions say.

    A pair is one observation: the mean of its first `votes_per_pair` votes, once it has that many. Later votes on it
    change nothing: if a pair's score could still move after it was looked at, one could wait for the moment at which it
    moves the right way, and the error would no longer be bounded. The test itself doesn't depend on the pairs' order.

    Args:
        champion: the version that answers.
        challenger: the version that is to be at least as good.
        meetings: of these two; others are ignored.
        most_pairs: after how many pairs without a decision the challenger is rejected.
        votes_per_pair: how many people judge a pair, fixed beforehand.
        alpha: the probability with which a challenger that is no better is ever promoted, or one that is no worse is
            ever rejected as worse, at most.
    """
    ours = [meeting for meeting in meetings if {meeting.one, meeting.other} == {champion, challenger}]
    counted = [meeting for meeting in ours if len(meeting.votes) >= votes_per_pair]
    scores = [meeting.score_of(challenger, votes_per_pair) for meeting in counted]
    better = log_wealth(scores)
    worse = log_wealth([1 - score for score in scores])
    decision, why = _decided(better, worse, len(scores), most_pairs, alpha)
    foreseen = further(scores, alpha) if len(scores) >= FEWEST_TO_FORESEE else None
    left = max(0, most_pairs - len(scores))
    low, high = bounds(scores, alpha)
    found = Contest(
        champion,
        challenger,
        pairs=len(scores),
        wins=sum(score > 0.5 for score in scores),
        losses=sum(score < 0.5 for score in scores),
        ties=sum(score == 0.5 for score in scores),
        votes=sum(len(meeting.votes) for meeting in ours),
        waiting=len(ours) - len(counted),
        share=sum(scores) / len(scores) if scores else None,
        interval=(round(low, 4), round(high, 4)) if scores else None,
        decision=decision,
        better=_wealth(better),
        worse=_wealth(worse),
        needed=None if decision != "more" or len(scores) < FEWEST_TO_FORESEE else min(left, foreseen or left),
    )
    return _told(found, why)


def _decided(better: float, worse: float, pairs: int, most_pairs: int, alpha: float) -> tuple[Decision, str]:
    enough = -math.log(alpha)
    if better >= enough and better >= worse:
        return "promote", "That is enough to say that the challenger is better."
    if worse >= enough:
        return "reject", "That is enough to say that the challenger is worse."
    if pairs >= most_pairs:
        return "reject", f"After {pairs} pairs it isn't shown to be better, so the champion stays."
    return "more", "That isn't enough to tell."


def _wealth(log: float) -> float:
    """The wealth, rounded; capped, as it has no bound."""
    return float(f"{math.exp(min(log, _LARGEST_LOG)):.4g}")


def _told(found: Contest, why: str) -> Contest:
    if found.interval is None:
        waiting = f"; {found.waiting} wait for further votes" if found.waiting else ""
        said = f"{found.challenger} challenges {found.champion}: no pair of the two is judged yet{waiting}."
        return replace(found, sentence=said)
    low, high = found.interval
    said = (
        f"{found.challenger} challenges {found.champion}: of {found.pairs} pairs people preferred it in {found.wins}, "
        f"the champion in {found.losses}, and called {found.ties} a tie. Its share is {found.share:.0%} "
        f"(between {low:.0%} and {high:.0%}). {why}"
    )
    if found.needed is not None:
        said += f" If it goes on like this, about {found.needed} more pairs decide."
    if found.waiting:
        said += f" {found.waiting} pairs wait for further votes."
    return replace(found, sentence=said)
