"""Warnings about a person's judgements, in words. Each has a test behind it, and nobody's vote is taken away for one.

The tests are corrected for the number of people (Bonferroni), so that on a line where all work well, a warning of one
kind appears in at most one of a hundred looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from scipy.stats import binomtest, fisher_exact, mannwhitneyu

from ml_backend.labels import UNKNOWN_ANNOTATOR
from ml_backend.people.agreement import Agreement, Votes, pairwise_among
from ml_backend.people.annotators import Person, Share

LEVEL = 0.01
"""How often a warning of one kind may appear though nothing is wrong with anybody."""
LOPSIDED = 0.8
"""The share of one side from which on it is told."""
FAST = 0.5
"""A median below this share of the others' is fast."""
LOW_AGREEMENT = 0.75
"""Agreement whose interval stays below this is low where the others' agreement among themselves isn't known."""
MUCH_LOWER = 0.1
"""By how much less than the others among themselves somebody agrees with them, to be told."""
ENOUGH = 20
"""Pairs that others share from which on their agreement is a yardstick."""
UNTOUCHED = 0.9
"""The share of untouched submissions from which on it is told."""
SELF_AGREEMENT = 0.8
"""What a person's agreement with themself is measured against where the others' agreement is lower or not known: the
lower of both counts, as nobody can be expected to repeat a verdict that others don't share."""

Yardstick = Callable[[], tuple[float | None, int]]
"""Gives the others' agreement among themselves, and on how many pairs; it takes a moment, and is seldom needed."""


def concerns_about(everybody: Sequence[Person], votes: Votes) -> dict[str, list[str]]:
    """Warnings for each person, by name. Annotations that name nobody may be of many people: they earn none."""
    found: dict[str, list[str]] = {person.annotator: [] for person in everybody}
    people = [person for person in everybody if person.annotator != UNKNOWN_ANNOTATOR]
    level = LEVEL / max(1, len(people))
    for person in people:
        others = [other for other in people if other is not person]
        found[person.annotator] += [said for said in (_one_side(person, others, level),) if said]
    steady = {name for name, said in found.items() if not said}
    for person in people:
        others = [other for other in people if other is not person]
        yardstick = partial(pairwise_among, votes, steady - {person.annotator})
        checks = (
            _fast_and_careless(person, others, yardstick, level),
            _untouched(person, others, level),
            _against_themself(person, yardstick, level),
        )
        found[person.annotator] += [said for said in checks if said]
    return found


def concerns_about_all(found: Agreement, people: int, judgements: int) -> list[str]:
    """Warnings about a line as a whole."""
    if not judgements:
        return []
    if not found.shared:
        return [
            "No pair was judged by two people, so nothing is known about how far people agree. Give some tasks to "
            "two people: Settings, Quality in Label Studio, or `maximum_annotations` of the project."
            if people > 1
            else "One person judged everything, so nothing is known about how far people agree."
        ]
    interval = found.alpha_interval
    if interval is not None and found.shared >= ENOUGH and interval[0] <= 0:
        return [
            f"People agree no better than chance would (alpha {found.alpha:.2f}, 95% interval {interval[0]:.2f} to "
            f"{interval[1]:.2f}). Talk about what makes an answer better before you collect more judgements."
        ]
    return []


def _one_side(person: Person, others: Sequence[Person], level: float) -> str | None:
    """One side far more often than shuffled sides allow; or, where the data place the answers, than the others do."""
    for share, shuffled in ((person.left, True), (person.left_given, False)):
        if share.value is None or max(share.value, 1 - share.value) < LOPSIDED:
            continue
        side, count = ("left", share.count) if share.value > 0.5 else ("right", share.total - share.count)
        said = f"Chooses the {side} answer in {count:.0f} of {share.total} judgements"
        if shuffled and binomtest(int(share.count), share.total).pvalue < level:
            return f"{said}; as answers are shuffled, about half would be expected. Do they read both?"
        theirs = sum(other.left_given.count for other in others), sum(other.left_given.total for other in others)
        if not shuffled and theirs[1] and _differs(share, theirs, "two-sided") < level:
            usual = theirs[0] if side == "left" else theirs[1] - theirs[0]
            return f"{said}, where the others do so in {usual:.0f} of {theirs[1]}."
    return None


def _fast_and_careless(person: Person, others: Sequence[Person], yardstick: Yardstick, level: float) -> str | None:
    """Much faster than the others and agreeing little with them; one alone says nothing against anybody."""
    theirs = [second for other in others for second in other.seconds]
    own, usual = person.seconds_median, median(theirs) if theirs else None
    agreement = person.agreement
    if own is None or usual is None or agreement.value is None or own >= FAST * usual:
        return None
    if mannwhitneyu(person.seconds, theirs, alternative="less").pvalue >= level:
        return None
    low = _low_agreement(person, yardstick, level)
    if low is None:
        return None
    return (
        f"Takes {own:.0f} seconds for a judgement, where the others take {usual:.0f}, and agrees with the others on "
        f"{agreement.value:.0%} of {agreement.total} pairs, {low}."
    )


def _low_agreement(person: Person, yardstick: Yardstick, level: float) -> str | None:
    """In words what a person's agreement is low against; None if it isn't."""
    agreement = person.agreement
    if agreement.value is None or agreement.interval is None:
        return None
    usual, shared = yardstick()
    if usual is not None and shared >= ENOUGH:
        theirs = round(usual * shared), shared
        is_lower = agreement.value <= usual - MUCH_LOWER and _differs(agreement, theirs, "less") < level
        return f"they among themselves on {usual:.0%}" if is_lower else None
    low, high = agreement.interval
    if high < LOW_AGREEMENT and person.by_chance is not None and low <= person.by_chance:
        return f"which guessing would reach as well ({person.by_chance:.0%})"
    return None


def _untouched(person: Person, others: Sequence[Person], level: float) -> str | None:
    """Submits what was preselected more often than the others do: only never disagreeing with it is a reason to ask."""
    share = person.untouched
    if share.value is None or share.value < UNTOUCHED:
        return None
    theirs = sum(other.untouched.count for other in others), sum(other.untouched.total for other in others)
    if not theirs[1] or _differs(share, theirs, "greater") >= level:
        return None
    return (
        f"Submits what was preselected in {share.count:.0f} of {share.total} tasks, where the others do so in "
        f"{theirs[0]:.0f} of {theirs[1]}. Do they look at it?"
    )


def _against_themself(person: Person, yardstick: Yardstick, level: float) -> str | None:
    """Contradicts their own verdicts on pairs that they saw again."""
    share = person.self_agreement
    if share.value is None:
        return None
    usual, shared = yardstick()
    expected = SELF_AGREEMENT if usual is None or shared < ENOUGH else min(SELF_AGREEMENT, usual)
    if binomtest(round(share.count), share.total, expected, alternative="less").pvalue >= level:
        return None
    return (
        f"Of {share.total} pairs that they judged again, they said the same on {share.value:.0%}; "
        f"{expected:.0%} or more would be expected."
    )


def _differs(share: Share, theirs: tuple[float, float], alternative: str) -> float:
    """The p value of Fisher's exact test that a share is the others'."""
    table = [[round(share.count), share.total - round(share.count)], [theirs[0], theirs[1] - theirs[0]]]
    return float(fisher_exact(table, alternative=alternative).pvalue)
