"""Converts one annotation to judgements: what was shown, the verdict, and which version wrote each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product
from typing import Any

from ml_backend.labels.authors import authored, selection_in, texts_in, whole
from ml_backend.labels.fields import LabelConfig
from training.data import JudgedAnswer, Judgement, Message, Prompt, Verdict, two_endings

UNKNOWN_ANNOTATOR = "unknown"
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


def judgements_in(annotation: Json, task: Json, config: LabelConfig, project_id: int | None) -> list[Judgement] | Loss:
    """The judgements in one annotation (one for a pair, several for a ranking), or why there are none.

    Args:
        annotation: Label Studio's JSON of a submitted (not skipped) annotation.
        task: the annotated task, with its predictions if available.
        config: which tags hold prompt, answers and verdict.
        project_id: recorded in the judgements.
    """
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(piece, Mapping) for piece in result):
        return Loss(Dropped.UNREADABLE)
    if not result:
        return Loss(Dropped.EMPTY)
    ranked = _pairs(result, annotation, task, config)
    if isinstance(ranked, Loss):
        return ranked
    prompt = ranked[0].beginning or config.prompt_of(task.get("data")) if ranked else None
    if prompt is None:
        return Loss(Dropped.MISSING_PROMPT)
    different = [pair for pair in ranked if pair.answer1.text.split() != pair.answer2.text.split()]
    if not different:
        return Loss(Dropped.IDENTICAL_ANSWERS)
    judgements = [_judgement(prompt, pair, annotation, task, project_id) for pair in different if pair.says_something]
    return judgements or Loss(Dropped.MISSING_ANSWER)


def verdict_of(annotation: Json, config: LabelConfig) -> Verdict | None:
    """The verdict in an annotation on a pair; None if there is none, or it can't be read."""
    result = annotation.get("result")
    if config.kind == "ranker" or not isinstance(result, list):
        return None
    found = _verdict_in([piece for piece in result if isinstance(piece, Mapping)], config)
    return found if isinstance(found, Verdict) else None


def annotator_of(annotation: Json) -> str | None:
    """The annotator's id as a string, else their e-mail address; None if the annotation names neither."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id", who.get("email"))
    known = isinstance(who, int | str) and not isinstance(who, bool) and str(who).strip()
    return whole(str(who)) if known else None


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two answers and a verdict; `beginning` is the prompt, where the answers are conversations that share it, and
    `selection` how the pair was chosen from several candidates, if it was.
    """

    answer1: JudgedAnswer
    answer2: JudgedAnswer
    verdict: Verdict
    beginning: Prompt | None = None
    selection: str | None = None

    @property
    def says_something(self) -> bool:
        """A blank answer can only lose."""
        lost = {Verdict.ANSWER1: self.answer2, Verdict.ANSWER2: self.answer1}.get(self.verdict)
        return all(answer.text or answer is lost for answer in (self.answer1, self.answer2))


def _pairs(result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig) -> list[_Pair] | Loss:
    if config.kind == "ranker":
        value = _value_of(result, config.control)
        return value if isinstance(value, Loss) else _ranking(value, task, config)
    verdict = _verdict_in(result, config)
    if isinstance(verdict, Loss):
        return verdict
    if verdict is Verdict.BOTH_BAD:
        return Loss(Dropped.BOTH_BAD)
    return _live(verdict, result, annotation, task, config) if config.kind == "live" else _shown(verdict, task, config)


def _verdict_in(result: Sequence[Json], config: LabelConfig) -> Verdict | Loss:
    if config.kind == "ratings":
        return _more_stars(result, config)
    if config.kind != "pairwise":
        value = _value_of(result, config.control)
        return value if isinstance(value, Loss) else _choice(value, config.verdicts)
    found: list[Verdict | Loss] = []
    pieces = [piece for piece in result if piece.get("from_name") == config.control]
    if pieces:
        value = _value_of(result, config.control)
        found.append(value if isinstance(value, Loss) else _side(value, config))
    for name, meanings in config.beside.items():
        if any(piece.get("from_name") == name for piece in result):
            value = _value_of(result, name)
            found.append(value if isinstance(value, Loss) else _choice(value, meanings))
    known = {verdict for verdict in found if isinstance(verdict, Verdict)}
    if len(known) == 1:
        return known.pop()
    if known:
        return _unknown(" and ".join(sorted(known)))
    return found[0] if found else _unknown("nothing chosen")


def _value_of(result: Sequence[Json], control: str) -> Json | Loss:
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
        value = _value_of(result, control)
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


def _live(
    verdict: Verdict, result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig
) -> list[_Pair] | Loss:
    answers, selection = [], None
    for field in config.answers:
        texts = [(piece, text) for piece in result for text in texts_in(piece, field)]
        if not texts:
            return Loss(Dropped.MISSING_ANSWER)
        written = [(piece, text) for piece, text in texts if text] or texts[:1]
        if len(written) > 1:  # a person added a second text, so there is no telling which was judged
            return Loss(Dropped.UNREADABLE)
        piece, text = written[0]
        answers.append(authored(text, piece, field, annotation, task))
        selection = selection_in(piece) or selection
    return [_Pair(answers[0], answers[1], verdict, selection=selection)]


def _shown(verdict: Verdict, task: Json, config: LabelConfig) -> list[_Pair] | Loss:
    data = task.get("data")
    texts = config.answers_of(data)
    if texts is None:
        return Loss(Dropped.MISSING_ANSWER)
    if not config.prompts:
        turns = [field.prompt_in(data) for field in config.answers]
        one, other = ([turn for turn in found if isinstance(turn, Message)] for found in map(_as_turns, turns))
        split = two_endings(one, other) if one and other else None
        if split and split[0]:
            beginning, *endings = split
            left, right = (JudgedAnswer(whole(text).strip()) for text in endings)
            return [_Pair(left, right, verdict, beginning)]
    left, right = (JudgedAnswer(whole(text).strip()) for text in texts)
    return [_Pair(left, right, verdict)]


def _as_turns(shown: Prompt | None) -> Sequence[Message]:
    return shown if isinstance(shown, tuple) else ()


def _ranking(value: Json, task: Json, config: LabelConfig) -> list[_Pair] | Loss:
    tiers = _tiers(value.get("ranker"), config)
    if isinstance(tiers, Loss):
        return tiers
    data = task.get("data")
    items = {item.id: item for item in config.items_of(data)}
    listed = config.answers[0].value_in(data)
    without_text = (
        {str(item.get("id")) for item in listed if isinstance(item, Mapping)} if isinstance(listed, list) else set()
    )
    names = [name for tier in tiers for name in tier]
    if len(set(names)) != len(names) or not set(names) <= set(items) | without_text:
        return Loss(Dropped.UNREADABLE)
    if len(names) < 2 or not set(names) <= set(items):
        return Loss(Dropped.MISSING_ANSWER)
    answers = {n: JudgedAnswer(whole(items[n].text).strip(), items[n].model_version) for n in names}
    found = [(better, worse) for one, other in combinations(tiers, 2) for better, worse in product(one, other)]
    return [_Pair(answers[better], answers[worse], Verdict.ANSWER1) for better, worse in found] or Loss(
        Dropped.ONE_BUCKET
    )


def _tiers(ranked: object, config: LabelConfig) -> list[list[str]] | Loss:
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


def _judgement(prompt: Prompt, pair: _Pair, annotation: Json, task: Json, project_id: int | None) -> Judgement:
    when = annotation.get("updated_at") or annotation.get("created_at")
    return Judgement(
        prompt=_whole_prompt(prompt),
        answer1=pair.answer1,
        answer2=pair.answer2,
        verdict=pair.verdict,
        annotator=annotator_of(annotation) or UNKNOWN_ANNOTATOR,
        project_id=project_id,
        task_id=_number(task.get("id")),
        annotation_id=_number(annotation.get("id")),
        updated_at=when if isinstance(when, str) else None,
        selection=pair.selection,
    )


def _whole_prompt(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return whole(prompt)
    return tuple(Message(turn.role, whole(turn.content)) for turn in prompt)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
