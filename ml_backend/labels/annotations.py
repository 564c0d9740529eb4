"""Converts one annotation to judgements: what was shown, the verdict, and which version wrote each answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from ml_backend.labels.config import Field, LabelConfig
from ml_backend.labels.predictions import version_in_region_id
from training.data import JudgedAnswer, Judgement, Verdict

UNKNOWN_ANNOTATOR = "unknown"
_SIDES = {"left": Verdict.ANSWER1, "right": Verdict.ANSWER2}

Json = Mapping[str, Any]


class Dropped(StrEnum):
    """Why an annotation yields no judgement."""

    EMPTY = "empty"
    BOTH_BAD = "both_bad"
    UNKNOWN_VERDICT = "unknown_verdict"
    MISSING_ANSWER = "missing_answer"
    IDENTICAL_ANSWERS = "identical_answers"
    MISSING_PROMPT = "missing_prompt"
    SUPERSEDED = "superseded"
    UNREADABLE = "unreadable"


def judgements_in(
    annotation: Json, task: Json, config: LabelConfig, project_id: int | None
) -> list[Judgement] | Dropped:
    """The judgements in one annotation (one for a pair, several for a ranking), or why there are none.

    Args:
        annotation: Label Studio's JSON of a submitted (not skipped) annotation.
        task: the annotated task, with its predictions if available.
        config: which tags hold prompt, answers and verdict.
        project_id: recorded in the judgements.
    """
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(piece, Mapping) for piece in result):
        return Dropped.UNREADABLE
    if not result:
        return Dropped.EMPTY
    pieces = [piece for piece in result if piece.get("from_name") == config.control]
    if len(pieces) != 1 or not isinstance(pieces[0].get("value"), Mapping):
        return Dropped.UNKNOWN_VERDICT
    value = pieces[0]["value"]
    if config.kind == "live":
        ranked = _live(value, result, annotation, task, config)
    elif config.kind == "pairwise":
        ranked = _pairwise(value, task, config)
    else:
        ranked = _ranking(value, task, config)
    if isinstance(ranked, Dropped):
        return ranked
    prompt = config.prompt_of(task.get("data"))
    if prompt is None:
        return Dropped.MISSING_PROMPT
    different = [pair for pair in ranked if pair.answer1.text.split() != pair.answer2.text.split()]
    judgements = [_judgement(prompt, pair, annotation, task, project_id) for pair in different]
    return judgements or Dropped.IDENTICAL_ANSWERS


def annotator_of(annotation: Json) -> str | None:
    """The annotator's id as a string, else their e-mail address; None if the annotation names neither."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id", who.get("email"))
    known = isinstance(who, int | str) and not isinstance(who, bool) and str(who).strip()
    return whole(str(who)) if known else None


def whole(text: str) -> str:
    """Replace lone surrogates, which can't be written to a file, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class _Pair:
    answer1: JudgedAnswer
    answer2: JudgedAnswer
    verdict: Verdict


def _live(
    value: Json, result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig
) -> list[_Pair] | Dropped:
    choices = value.get("choices")
    chosen = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    verdict = config.verdicts.get(chosen) if isinstance(chosen, str) else None
    if verdict is None:
        return Dropped.UNKNOWN_VERDICT
    if verdict is Verdict.BOTH_BAD:
        return Dropped.BOTH_BAD
    answers = []
    for field in config.answers:
        texts = [(piece, text) for piece in result for text in _texts(piece, field)]
        if not texts:
            return Dropped.MISSING_ANSWER
        if len(texts) > 1:  # a person added a second text, so there is no telling which was judged
            return Dropped.UNREADABLE
        piece, text = texts[0]
        answers.append(_authored(text, piece, field, annotation, task))
    return [_Pair(answers[0], answers[1], verdict)]


def _pairwise(value: Json, task: Json, config: LabelConfig) -> list[_Pair] | Dropped:
    selected = value.get("selected")
    verdict = _SIDES.get(selected) if isinstance(selected, str) else None
    if verdict is None:
        return Dropped.UNKNOWN_VERDICT
    texts = config.answers_of(task.get("data"))
    if texts is None:
        return Dropped.MISSING_ANSWER
    left, right = (JudgedAnswer(whole(text).strip()) for text in texts)
    return [_Pair(left, right, verdict)]


def _ranking(value: Json, task: Json, config: LabelConfig) -> list[_Pair] | Dropped:
    columns = value.get("ranker")
    order = columns.get(config.control) if isinstance(columns, Mapping) else None
    if not isinstance(order, list):
        return Dropped.UNKNOWN_VERDICT
    items = {item.id: item for item in config.items_of(task.get("data"))}
    names = [str(name) for name in order]
    if len(set(names)) != len(names) or not set(names) <= set(items):
        return Dropped.UNREADABLE
    if len(names) < 2:
        return Dropped.MISSING_ANSWER
    answers = [JudgedAnswer(whole(items[n].text).strip(), items[n].model_version) for n in names]
    return [_Pair(better, worse, Verdict.ANSWER1) for better, worse in combinations(answers, 2)]


def _judgement(prompt: str, pair: _Pair, annotation: Json, task: Json, project_id: int | None) -> Judgement:
    when = annotation.get("updated_at") or annotation.get("created_at")
    return Judgement(
        prompt=whole(prompt),
        answer1=pair.answer1,
        answer2=pair.answer2,
        verdict=pair.verdict,
        annotator=annotator_of(annotation) or UNKNOWN_ANNOTATOR,
        project_id=project_id,
        task_id=_number(task.get("id")),
        annotation_id=_number(annotation.get("id")),
        updated_at=when if isinstance(when, str) else None,
    )


def _texts(piece: Json, field: Field) -> Iterator[str]:
    """The non-blank texts in a TextArea's result."""
    value = piece.get("value")
    if piece.get("from_name") == field.name and isinstance(value, Mapping):
        texts = value.get("text")
        for text in [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []:
            if isinstance(text, str) and text.strip():
                yield whole(text).strip()


def _authored(text: str, piece: Json, field: Field, annotation: Json, task: Json) -> JudgedAnswer:
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
        texts = [text for piece in pieces for text in _texts(piece, field)]
        yield _Proposal(
            _text(prediction.get("model_version")), texts[0] if len(texts) == 1 else None, prediction in parents
        )


def _text(value: object) -> str | None:
    return whole(value).strip() or None if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
