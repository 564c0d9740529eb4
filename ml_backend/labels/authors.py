"""Who wrote an answer that people saw: a version, or the person who rewrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml_backend.labels.fields import Field
from ml_backend.labels.predictions import version_in_region_id
from training.data import JudgedAnswer

Json = Mapping[str, Any]


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


def _judged(text: str, version: str | None, proposed: str | None, piece: Json) -> JudgedAnswer:
    if proposed is not None:
        return JudgedAnswer(text, version, None if proposed == text else proposed)
    written_by_hand = piece.get("origin") in ("manual", "prediction-changed")
    return JudgedAnswer(text, None if written_by_hand else version)


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
        texts = [text for piece in pieces for text in texts_in(piece, field) if text]
        yield _Proposal(
            _text(prediction.get("model_version")), texts[0] if len(texts) == 1 else None, prediction in parents
        )


def _text(value: object) -> str | None:
    return whole(value).strip() or None if isinstance(value, str) else None
