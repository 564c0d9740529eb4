"""What an annotation's result says: a verdict, the order of a ranking, or nothing that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ml_backend.labels.authors import whole
from ml_backend.labels.fields import LabelConfig
from training.data import Verdict

_SIDES = {"left": Verdict.ANSWER1, "right": Verdict.ANSWER2}
_LONGEST_VALUE = 60

Json = Mapping[str, Any]


class Dropped(StrEnum):
    """Why an annotation yields no judgement."""

    EMPTY = "empty"
    BOTH_BAD = "both_bad"
    UNKNOWN_VERDICT = "unknown_verdict"
    UNORDERED_BUCKETS = "unordered_buckets"
    ONE_BUCKET = "one_bucket"
    MISSING_ANSWER = "missing_answer"
    IDENTICAL_ANSWERS = "identical_answers"
    MISSING_PROMPT = "missing_prompt"
    SUPERSEDED = "superseded"
    REJECTED_IN_REVIEW = "rejected_in_review"
    GROUND_TRUTH = "ground_truth"
    NOT_GROUND_TRUTH = "not_ground_truth"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Loss:
    """Why an annotation yields no judgement, with the verdict that isn't known, if that is why."""

    reason: Dropped
    value: str | None = None


def verdict_in(result: Sequence[Json], config: LabelConfig) -> Verdict | Loss:
    """The verdict of an annotation on a pair."""
    if config.kind == "ratings":
        return _more_stars(result, config)
    if config.kind != "pairwise":
        value = value_of(result, config.control)
        return value if isinstance(value, Loss) else _choice(value, config.verdicts)
    found: list[Verdict | Loss] = []
    pieces = [piece for piece in result if piece.get("from_name") == config.control]
    if pieces:
        value = value_of(result, config.control)
        found.append(value if isinstance(value, Loss) else _side(value, config))
    for name, meanings in config.beside.items():
        if any(piece.get("from_name") == name for piece in result):
            value = value_of(result, name)
            found.append(value if isinstance(value, Loss) else _choice(value, meanings))
    known = {verdict for verdict in found if isinstance(verdict, Verdict)}
    if len(known) == 1:
        return known.pop()
    if known:
        return _unknown(" and ".join(sorted(known)))
    return found[0] if found else _unknown("nothing chosen")


def value_of(result: Sequence[Json], control: str) -> Json | Loss:
    """The value of the one region that a control tag made."""
    pieces = [piece for piece in result if piece.get("from_name") == control]
    if len(pieces) != 1 or not isinstance(pieces[0].get("value"), Mapping):
        return _unknown("nothing chosen" if not pieces else "more than one" if len(pieces) > 1 else pieces[0])
    value: Json = pieces[0]["value"]
    return value


def _choice(value: Json, meanings: Mapping[str, Verdict]) -> Verdict | Loss:
    choices = value.get("choices")
    chosen = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    verdict = meanings.get(chosen) if isinstance(chosen, str) else None
    return verdict or _unknown(chosen if isinstance(chosen, str) else choices)


def _side(value: Json, config: LabelConfig) -> Verdict | Loss:
    """Left or right; older versions of Label Studio name the object."""
    selected = value.get("selected")
    names = dict(zip((answer.name for answer in config.answers), _SIDES.values(), strict=True))
    verdict = {**names, **_SIDES}.get(selected) if isinstance(selected, str) and selected else None
    return verdict or _unknown(selected)


def _more_stars(result: Sequence[Json], config: LabelConfig) -> Verdict | Loss:
    stars = []
    for control in (config.control, config.other_rating):
        value = value_of(result, control)
        if isinstance(value, Loss):
            return value
        rating = value.get("rating")
        if isinstance(rating, bool) or not isinstance(rating, int | float):
            return _unknown(rating)
        stars.append(rating)
    if stars[0] == stars[1]:
        return Verdict.TIE
    return Verdict.ANSWER1 if stars[0] > stars[1] else Verdict.ANSWER2


def _unknown(value: object) -> Loss:
    text = value if isinstance(value, str) else repr(value)
    return Loss(Dropped.UNKNOWN_VERDICT, whole(text)[:_LONGEST_VALUE])


def tiers_in(ranked: object, config: LabelConfig) -> list[list[str]] | Loss:
    """The ranked ids, best first; those of one tier aren't compared with each other."""
    if isinstance(ranked, list):  # as older versions of Label Studio store it
        order: object = ranked
    elif not isinstance(ranked, Mapping):
        return _unknown(ranked)
    elif len(config.buckets) > 1:
        tiers = [ranked.get(name, []) for name in config.buckets]
        if not all(isinstance(tier, list) for tier in tiers):
            return _unknown(ranked)
        return [list(map(str, tier)) for tier in tiers]
    else:
        order = ranked.get(config.buckets[0] if config.buckets else config.control)
        if order is None and len([name for name in ranked if name != "_"]) > 1:
            return Loss(Dropped.UNORDERED_BUCKETS)
    return [[str(name)] for name in order] if isinstance(order, list) else _unknown(ranked)


def is_untouched(result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig) -> bool | None:
    """Whether the verdict is the one that the annotation's parent prediction had selected; None if it selected none.

    A region's `origin` can't tell: it stays `prediction` when somebody chooses the other side.
    """
    if config.kind not in ("pairwise", "choices", "ranker"):
        return None
    preset = _parent_result(annotation, task)
    values = [value_of(pieces, config.control) for pieces in (preset, result)]
    if isinstance(values[0], Loss):
        return None
    before, after = (value if isinstance(value, Loss) else _said(value, config) for value in values)
    return None if isinstance(before, Loss) else before == after


def _parent_result(annotation: Json, task: Json) -> list[Json]:
    """The regions of the prediction that an annotation was made from; none if that isn't known."""
    stored, noted, parent = task.get("predictions"), annotation.get("prediction"), annotation.get("parent_prediction")
    predictions = [noted, *(stored if isinstance(stored, list) else [])]
    known = (p for p in predictions if isinstance(p, Mapping) and parent is not None and p.get("id") == parent)
    result = next((p.get("result") for p in known), None)
    return [piece for piece in result if isinstance(piece, Mapping)] if isinstance(result, list) else []


def _said(value: Json, config: LabelConfig) -> Verdict | list[list[str]] | Loss:
    if config.kind == "ranker":
        return tiers_in(value.get("ranker"), config)
    return _side(value, config) if config.kind == "pairwise" else _choice(value, config.verdicts)
