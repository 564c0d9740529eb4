"""What becomes of a version that passed its gates, and of a challenger that people have judged."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ml_backend.contest import Contest, decide, meetings_in, no_contest
from ml_backend.errors import SupersededError
from ml_backend.labels import read_moment
from ml_backend.registry import Registry
from training.data import Judgement

logger = logging.getLogger(__name__)


def put_forward(registry: Registry, name: str, *, instead_of: str, people_decide: bool) -> tuple[str, str]:
    """Make a version champion, or where people decide its challenger.

    Args:
        registry: the versions.
        name: the version.
        instead_of: the champion that it was trained from.
        people_decide: whether people's verdicts decide.

    Returns:
        `promoted` or `challenger`, or `registered` if somebody chose another champion in the meantime, as that decision
        holds; and that in words.
    """
    try:
        if people_decide:
            registry.challenge(name, instead_of)
            return "challenger", f"{name} challenges {instead_of}: people's verdicts on pairs of the two decide."
        registry.promote(name, instead_of=instead_of)
    except SupersededError as error:
        logger.warning("%s doesn't become champion: %s", name, error)
        why = f"{error} `rankloop promote {name}` makes it champion."
        return "registered", f"{name} is registered, but not champion: {why}"
    return "promoted", f"{name} is champion."


def judge_contest(registry: Registry, line: str, judgements: Iterable[Judgement], *, votes: int, most: int) -> Contest:
    """Where the contest of a line stands.

    Args:
        registry: knows the line's champion and challenger.
        line: the line.
        judgements: all of the line.
        votes: how many people judge a pair.
        most: after how many pairs an undecided challenger is rejected.
    """
    champion, challenger = registry.current(line), registry.challenger(line)
    if challenger is None:
        return no_contest(champion.name)
    met = meetings_in(judgements, read_moment)
    return decide(champion.name, challenger.name, met, most_pairs=most, votes_per_pair=votes)


def settle(registry: Registry, contest: Contest) -> bool:
    """Do what a contest came to. Returns whether that changed anything: not if there is no decision yet, and not if
    somebody promoted, rolled back or ended the contest in the meantime, as that decision holds. Idempotent.
    """
    champion, challenger, why = contest.champion, contest.challenger, contest.sentence
    if challenger is None or contest.decision not in ("promote", "reject"):
        return False
    try:
        if contest.decision == "promote":
            registry.promote_challenger(challenger, champion, why)
        else:
            registry.reject_challenger(challenger, champion, why)
    except SupersededError as error:
        logger.warning("people's verdicts on %s change nothing: %s", challenger, error)
        return False
    return True
