"""The backend's proposals in Label Studio's format: answer pairs, a preferred answer, an order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_backend.labels.fields import LabelConfig
from training.data import Verdict

CUT_NOTE = "This answer was cut off at the length limit."

Side = Literal["left", "right"]
_SIDES = "ab"
_BLIND = "pair"  # in place of the version in the ids of regions that mustn't say who wrote an answer
_REGION_ID = re.compile(r"(?P<version>.+)~(?P<side>[ab])~[0-9a-f]+")


def live_prediction(
    config: LabelConfig,
    answer1: str,
    answer2: str,
    version: str,
    *,
    cut: tuple[bool, bool] = (False, False),
    authors: tuple[str, str] | None = None,
    how: str | None = None,
) -> dict[str, Any]:
    """Fill the two answer cards.

    Label Studio returns a region's id and meta with the annotation, so each answer's version and its original text
    travel with the judgement, how the pair was chosen, and whether an answer was `cut` off at the length limit, which
    the page shows as the region's note.

    Args:
        config: a live config.
        answer1: the left answer.
        answer2: the right answer.
        version: the name that the prediction is stored under.
        cut: whether each answer was cut off.
        authors: the versions that wrote the answers, where two versions are compared: only the regions' metadata, which
            the page doesn't show, then says which wrote which. None if `version` wrote both.
        how: how the pair was chosen from several candidates; None if it is as it was drawn.
    """
    written = authors or (version, version)
    shown = zip(config.answers, (answer1, answer2), written, _SIDES, cut, strict=True)
    regions = [
        _answer_region(config, field.name, text, author, f"{_BLIND if authors else author}~{side}", was_cut)
        for field, text, author, side, was_cut in shown
    ]
    for region in regions if how else ():
        region["meta"]["selection"] = how
    return {"model_version": version, "result": regions}


def pairwise_prediction(config: LabelConfig, selected: Side, score: float, version: str) -> dict[str, Any]:
    """Preselect the answer that the reward model prefers.

    Args:
        config: a config whose tasks hold two answers, and whose verdict is a Pairwise or a Choices.
        selected: the preferred side.
        score: the reward model's probability that it is the better one, in [0, 1].
        version: the version whose reward model judged.

    Raises:
        ValueError: `selected` isn't a side (Label Studio would show an error instead of the task), or `score` isn't a
            probability (Label Studio would reject the prediction).
    """
    if selected not in ("left", "right"):
        raise ValueError(f"selected must be left or right, got {selected!r}")
    if config.kind != "choices":
        return _opinion(config, "preferred", {"selected": selected}, score, version)
    side = Verdict.ANSWER1 if selected == "left" else Verdict.ANSWER2
    chosen = next(value for value, verdict in config.verdicts.items() if verdict is side)
    return _opinion(config, "preferred", {"choices": [chosen]}, score, version)


def ranker_prediction(config: LabelConfig, order: Sequence[str], score: float, version: str) -> dict[str, Any]:
    """Show the answers in the order that the reward model prefers, best first.

    Args:
        config: a ranker config.
        order: the items' ids.
        score: the reward model's confidence, in [0, 1].
        version: the version whose reward model judged.

    Raises:
        ValueError: an id appears twice in the order, or `score` isn't a probability.
    """
    if len(set(order)) != len(order):
        raise ValueError(f"an id appears twice in the order: {list(order)!r}")
    return _opinion(
        config, "order", {"ranker": {(config.buckets or (config.control,))[0]: list(order)}}, score, version
    )


def version_in_region_id(region_id: object) -> str | None:
    """The version named in an answer region's id; None if the id isn't ours, or names none."""
    match = _REGION_ID.fullmatch(region_id) if isinstance(region_id, str) else None
    return match["version"] if match and match["version"] != _BLIND else None


def side_in_region_id(region_id: object) -> int | None:
    """Which card, 0 or 1, an answer region filled when it was proposed; None if the id isn't ours."""
    match = _REGION_ID.fullmatch(region_id) if isinstance(region_id, str) else None
    return _SIDES.index(match["side"]) if match else None


def pair_digest(answer1: str, answer2: str) -> str:
    """A fingerprint of a pair of texts, whichever is on the left and however they are spaced."""
    texts = sorted(" ".join(text.split()) for text in (answer1, answer2))
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def fits(config: LabelConfig, result: Sequence[object]) -> bool:
    """Whether a stored prediction's regions belong to tags that the config has; an empty prediction fits."""
    regions = [region for region in result if isinstance(region, Mapping)]
    if config.kind == "live":
        wanted = {(field.name, config.target) for field in config.answers}
    else:
        wanted = {(config.control, config.target)}
    return all((region.get("from_name"), region.get("to_name")) in wanted for region in regions)


def _answer_region(
    config: LabelConfig, name: str, text: str, version: str, place: str, was_cut: bool
) -> dict[str, Any]:
    note = {"cut": True, "text": [CUT_NOTE]} if was_cut else {}
    fingerprint = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return {
        "id": f"{place}~{fingerprint}",
        "type": "textarea",
        "from_name": name,
        "to_name": config.target,
        "value": {"text": [text]},
        "meta": {"version": version, "proposed": text, **note},
    }


def _opinion(config: LabelConfig, what: str, value: dict[str, Any], score: float, version: str) -> dict[str, Any]:
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"a score must be a probability, got {score!r}")
    region = {
        "id": f"{version}~{what}",
        "type": config.kind,
        "from_name": config.control,
        # The first object only: with both names of a pairwise config Label Studio silently shows nothing.
        "to_name": config.target,
        "value": value,
    }
    return {"model_version": version, "score": float(score), "result": [region]}
