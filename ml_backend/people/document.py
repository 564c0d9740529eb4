"""The figures about people as one JSON document, for the registry, the page and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_backend.people.agreement import Interval, agreement_on, votes_on
from ml_backend.people.annotators import Person, people_in
from ml_backend.people.concerns import concerns_about, concerns_about_all
from training.data import Judgement, PairKey


def people_document(
    judgements: Sequence[Judgement], first_is_better: Mapping[PairKey, float], computed_at: str
) -> dict[str, Any]:
    """What a line's judgements say of its people; `docs/people.md` says what each figure means.

    Args:
        judgements: all of the line's.
        first_is_better: see `people_in`.
        computed_at: when, as ISO 8601.
    """
    votes = votes_on(judgements)
    found = agreement_on(votes)
    people = people_in(judgements, votes, first_is_better)
    concerns = concerns_about(people, votes)
    return {
        "computed_at": computed_at,
        "judgements": len(judgements),
        "pairs": len(votes),
        "shared_pairs": found.shared,
        "alpha": found.alpha,
        "alpha_interval": _ends(found.alpha_interval),
        "pairwise": found.pairwise,
        "pairwise_interval": _ends(found.pairwise_interval),
        "people": [_entry(person, concerns[person.annotator]) for person in people],
        "warnings": concerns_about_all(found, len(people), len(judgements)),
    }


def _entry(person: Person, warnings: list[str]) -> dict[str, Any]:
    left = person.left if person.left.total else person.left_given
    return {
        "annotator": person.annotator,
        "judgements": person.judgements,
        "agreement": person.agreement.value,
        "agreement_interval": _ends(person.agreement.interval),
        "agreement_pairs": person.agreement.total,
        "with_reward_model": person.with_reward_model.value,
        "with_reward_model_interval": _ends(person.with_reward_model.interval),
        "with_reward_model_pairs": person.with_reward_model.total,
        "left_share": left.value,
        "left_interval": _ends(left.interval),
        "ties": person.ties,
        "seconds_median": person.seconds_median,
        "untouched_share": person.untouched.value,
        "self_agreement": person.self_agreement.value,
        "repeated_pairs": person.self_agreement.total,
        "warnings": warnings,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
