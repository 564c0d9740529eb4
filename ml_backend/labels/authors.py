"""The answers that people saw, and who wrote each: a version, or the person who rewrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml_backend.labels.fields import Field, LabelConfig
from ml_backend.labels.predictions import pair_digest, side_in_region_id, version_in_region_id
from training.data import JudgedAnswer

Json = Mapping[str, Any]

SELECTIONS = ("random", "gap", "uncertain")
"""What is known of how a pair was chosen."""


def whole(text: str) -> str:
    """Replace lone surrogates, which can't be written to a file, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def texts_in(piece: Json, field: Field) -> list[str]:
    """The texts in a TextArea's result, stripped; a blank one is empty."""
    value = piece.get("value")
    if piece.get("from_name") != field.name or not isinstance(value, Mapping):
        return []
    texts = value.get("text")
    found = [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []
    return [whole(text).strip() for text in found if isinstance(text, str)]


def authored(text: str, piece: Json, field: Field, annotation: Json, task: Json) -> JudgedAnswer:
    """Attribute a live answer to its author by its region's metadata, else by the predictions that were shown.

    Without proof that a version wrote it, or that a person edited it, neither is claimed.
    """
    meta = piece.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    version = _text(meta.get("version")) or version_in_region_id(piece.get("id"))
    proposals = list(_proposals(annotation, task, field))
    if version:
        known = [_text(meta.get("proposed")), *(p.text for p in proposals if p.version == version)]
        proposed = next((candidate for candidate in known if candidate), None)
        return _judged(text, version, proposed, piece)
    for proposal in proposals:
        if proposal.text == text:
            return JudgedAnswer(text, proposal.version)
    parent = next((proposal for proposal in proposals if proposal.is_parent), None)
    return _judged(text, parent.version, parent.text, piece) if parent else JudgedAnswer(text)


def selection_in(piece: Json) -> str | None:
    """How the pair that an answer's region belongs to was chosen, by its metadata."""
    meta = piece.get("meta")
    found = meta.get("selection") if isinstance(meta, Mapping) else None
    return found if found in SELECTIONS else None


def is_repeat(piece: Json) -> bool:
    """Whether an answer's region belongs to a pair that was shown once more, by its metadata."""
    meta = piece.get("meta")
    return isinstance(meta, Mapping) and meta.get("repeat") is True


def fresh_note(version: str, answer1: str, answer2: str) -> dict[str, str]:
    """What a task that holds two answers of a version notes of them, under `meta.rankloop.fresh`."""
    return {"version": version, "pair": pair_digest(answer1, answer2)}


def version_noted(task: Json, answer1: str, answer2: str) -> str | None:
    """The version that wrote the two answers that a task holds; None if it isn't noted, or they have changed since."""
    note: Any = task
    for key in ("meta", "rankloop", "fresh"):
        note = note.get(key) if isinstance(note, Mapping) else None
    if not isinstance(note, Mapping) or note.get("pair") != pair_digest(answer1, answer2):
        return None
    return _text(note.get("version"))


def _judged(text: str, version: str | None, proposed: str | None, piece: Json) -> JudgedAnswer:
    if proposed is not None:
        return JudgedAnswer(text, version, None if proposed == text else proposed)
    written_by_hand = piece.get("origin") in ("manual", "prediction-changed")
    return JudgedAnswer(text, None if written_by_hand else version)


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer as it was proposed, the version that wrote it, if known, and its region in the annotation."""

    text: str
    version: str | None
    region: Json

    @property
    def as_proposed(self) -> bool:
        """Whether its region holds just that text, so nobody rewrote it."""
        return texts_in(self.region, Field(str(self.region.get("from_name")))) == [self.text]


def judged_pair(task: Json, config: LabelConfig) -> tuple[ShownAnswer, ShownAnswer] | None:
    """The pair that the first judgement of a task is about, as it was proposed; None if nobody judged a pair of it."""
    annotations = task.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else []:
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled"):
            pair = shown_pair(annotation, config)
            if pair is not None:
                return pair
    return None


def shown_pair(annotation: Json, config: LabelConfig) -> tuple[ShownAnswer, ShownAnswer] | None:
    """The pair in an annotation, as it was proposed; None if it doesn't hold one, or the config isn't live."""
    result = annotation.get("result")
    if config.kind != "live" or not isinstance(result, list):
        return None
    pieces = [piece for piece in result if isinstance(piece, Mapping)]
    one, other = (_shown(pieces, field, side) for side, field in enumerate(config.answers))
    return (one, other) if one and other and one.text and other.text else None


def pair_prediction(config: LabelConfig, pair: tuple[ShownAnswer, ShownAnswer], version: str) -> dict[str, Any]:
    """Fill the two answer cards with a pair that was shown before, under the name of the version that serves now.

    Each answer's region keeps its id and metadata, so that its author stays known.
    """
    regions = [_again(config, field, answer) for field, answer in zip(config.answers, pair, strict=True)]
    return {"model_version": version, "result": regions}


@dataclass(frozen=True, slots=True)
class _Proposal:
    version: str | None
    text: str | None
    is_parent: bool


def _proposals(annotation: Json, task: Json, field: Field) -> Iterator[_Proposal]:
    """The answer's text in each prediction, with the annotation's parent prediction first.

    Label Studio fills `prediction` even if the annotation wasn't made from it; only `parent_prediction` proves that.
    """
    stored, noted, parent = task.get("predictions"), annotation.get("prediction"), annotation.get("parent_prediction")
    predictions = [noted, *(stored if isinstance(stored, list) else [])]
    known = [p for p in predictions if isinstance(p, Mapping) and p]
    parents = [p for p in known if parent is not None and p.get("id") == parent]
    others = [p for p in known if p not in parents]
    for prediction in [*parents, *others]:
        result = prediction.get("result")
        pieces = [piece for piece in result if isinstance(piece, Mapping)] if isinstance(result, list) else []
        texts = [(text, piece) for piece in pieces for text in texts_in(piece, field) if text]
        text, author = (texts[0][0], _named_author(texts[0][1])) if len(texts) == 1 else (None, None)
        yield _Proposal(author or _text(prediction.get("model_version")), text, prediction in parents)


def _named_author(piece: Json) -> str | None:
    """The version that a region names as the author of its text."""
    meta = piece.get("meta")
    return _text(meta.get("version")) if isinstance(meta, Mapping) else None


def _text(value: object) -> str | None:
    return whole(value).strip() or None if isinstance(value, str) else None


def _shown(pieces: list[Json], field: Field, side: int) -> ShownAnswer | None:
    """The answer on one card: the tag's own text, else, under a config with other names, what was proposed there."""
    own = [piece for piece in pieces if piece.get("from_name") == field.name]
    for piece in own or [piece for piece in pieces if side_in_region_id(piece.get("id")) == side]:
        name = Field(str(piece.get("from_name")))
        meta = piece.get("meta") if isinstance(piece.get("meta"), Mapping) else {}
        proposed = meta.get("proposed") if isinstance(meta, Mapping) else None
        known = [proposed.strip()] if isinstance(proposed, str) and proposed.strip() else texts_in(piece, name)
        version = (_text(meta.get("version")) if isinstance(meta, Mapping) else None) or version_in_region_id(
            piece.get("id")
        )
        if known and known[0]:
            return ShownAnswer(known[0], version, piece)
    return None


def _again(config: LabelConfig, field: Field, answer: ShownAnswer) -> dict[str, Any]:
    kept = {name: answer.region[name] for name in ("id", "meta") if answer.region.get(name)}
    place = {"type": "textarea", "from_name": field.name, "to_name": config.target}
    return {**kept, **place, "value": {"text": [answer.text]}}
