"""What people say on a line, with nothing missing: other releases may have written less, or other things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]

_PERSON: Document = {
    "annotator": "", "judgements": 0, "agreement": None, "agreement_interval": None, "agreement_pairs": 0,
    "with_reward_model": None, "with_reward_model_interval": None, "with_reward_model_pairs": 0, "left_share": None,
    "left_interval": None, "ties": None, "seconds_median": None, "untouched_share": None, "self_agreement": None,
    "repeated_pairs": 0, "warnings": (),
}  # fmt: skip
_PEOPLE: Document = {
    "computed_at": None, "judgements": 0, "pairs": 0, "shared_pairs": 0, "alpha": None, "alpha_interval": None,
    "pairwise": None, "pairwise_interval": None, "people": (), "warnings": (),
}  # fmt: skip
_CONTEST: Document = {
    "champion": None, "challenger": None, "pairs": 0, "wins": 0, "losses": 0, "ties": 0, "votes": 0, "share": None,
    "interval": None, "decision": "none", "needed": None, "sentence": "",
}  # fmt: skip
_ENTRY: Document = {
    "version": "", "strength": None, "interval": None, "length_adjusted": None, "length_adjusted_interval": None,
    "pairs": 0, "votes": 0,
}  # fmt: skip
_LEADERBOARD: Document = {"versions": (), "votes_to_turn": None, "sentence": ""}


@dataclass(frozen=True, slots=True)
class Opinions:
    """The documents that a line's people make; None where there is none. Every field of each is there.

    people: how much they agree, and each of them.
    contest: the challenger against the champion.
    leaderboard: the strengths of versions, best first.
    """

    people: Document | None = None
    contest: Document | None = None
    leaderboard: Document | None = None

    @property
    def entries(self) -> tuple[Document, ...]:
        """The versions of the leaderboard."""
        return tuple((self.leaderboard or {}).get("versions", ()))


def read_opinions(stored: Mapping[str, Any]) -> Opinions:
    """The documents as the registry has them, made complete."""
    people, contest, leaderboard = (stored.get(name) or None for name in ("people", "contest", "leaderboard"))
    if people:
        people = {**_PEOPLE, **people}
        people["people"] = [{**_PERSON, **person} for person in people["people"] or ()]
    if leaderboard:
        leaderboard = {**_LEADERBOARD, **leaderboard}
        leaderboard["versions"] = [{**_ENTRY, **entry} for entry in leaderboard["versions"] or ()]
    return Opinions(people, {**_CONTEST, **contest} if contest else None, leaderboard)
