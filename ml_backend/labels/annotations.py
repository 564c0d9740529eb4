"""Converts one annotation to judgements: what was shown, the verdict, and which version wrote each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from ml_backend.labels.authors import authored, is_repeat, selection_in, texts_in, version_noted, whole
from ml_backend.labels.fields import LabelConfig
from ml_backend.labels.verdicts import Dropped, Json, Loss, is_untouched, tiers_in, value_of, verdict_in
from training.data import JudgedAnswer, Judgement, Message, Prompt, Verdict, two_endings

UNKNOWN_ANNOTATOR = "unknown"
_LONGEST_S = 1e9
_SIDES_OF: Mapping[str, Literal["shuffled", "given"]] = {
    "live": "shuffled",
    **dict.fromkeys(("pairwise", "choices", "ratings"), "given"),
}
"""How it is decided which answer stands left, by the label config's kind; a ranking has no sides."""


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
    known = _Known(
        annotation, task, project_id, _SIDES_OF.get(config.kind), is_untouched(result, annotation, task, config)
    )
    judgements = [_judgement(prompt, pair, known) for pair in different if pair.says_something]
    return judgements or Loss(Dropped.MISSING_ANSWER)


def verdict_of(annotation: Json, config: LabelConfig) -> Verdict | None:
    """The verdict in an annotation on a pair; None if there is none, or it can't be read."""
    result = annotation.get("result")
    if config.kind == "ranker" or not isinstance(result, list):
        return None
    found = verdict_in([piece for piece in result if isinstance(piece, Mapping)], config)
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
    """Two answers and a verdict; `beginning` is the prompt, where the answers are conversations that share it,
    `selection` how the pair was chosen from several candidates, if it was, and `repeat` whether it was shown before.
    """

    answer1: JudgedAnswer
    answer2: JudgedAnswer
    verdict: Verdict
    beginning: Prompt | None = None
    selection: str | None = None
    repeat: bool = False

    @property
    def says_something(self) -> bool:
        """A blank answer can only lose."""
        lost = {Verdict.ANSWER1: self.answer2, Verdict.ANSWER2: self.answer1}.get(self.verdict)
        return all(answer.text or answer is lost for answer in (self.answer1, self.answer2))


def _pairs(result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig) -> list[_Pair] | Loss:
    if config.kind == "ranker":
        value = value_of(result, config.control)
        return value if isinstance(value, Loss) else _ranking(value, task, config)
    verdict = verdict_in(result, config)
    if isinstance(verdict, Loss):
        return verdict
    if verdict is Verdict.BOTH_BAD:
        return Loss(Dropped.BOTH_BAD)
    return _live(verdict, result, annotation, task, config) if config.kind == "live" else _shown(verdict, task, config)


def _live(
    verdict: Verdict, result: Sequence[Json], annotation: Json, task: Json, config: LabelConfig
) -> list[_Pair] | Loss:
    answers, selection, repeat = [], None, False
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
        repeat = repeat or is_repeat(piece)
    return [_Pair(answers[0], answers[1], verdict, selection=selection, repeat=repeat)]


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
    version = version_noted(task, *texts)
    left, right = (JudgedAnswer(whole(text).strip(), version) for text in texts)
    return [_Pair(left, right, verdict)]


def _as_turns(shown: Prompt | None) -> Sequence[Message]:
    return shown if isinstance(shown, tuple) else ()


def _ranking(value: Json, task: Json, config: LabelConfig) -> list[_Pair] | Loss:
    tiers = tiers_in(value.get("ranker"), config)
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What the judgements of one annotation share."""

    annotation: Json
    task: Json
    project_id: int | None
    sides: Literal["shuffled", "given"] | None
    untouched: bool | None


def _judgement(prompt: Prompt, pair: _Pair, known: _Known) -> Judgement:
    annotation = known.annotation
    when = annotation.get("updated_at") or annotation.get("created_at")
    return Judgement(
        prompt=_whole_prompt(prompt),
        answer1=pair.answer1,
        answer2=pair.answer2,
        verdict=pair.verdict,
        annotator=annotator_of(annotation) or UNKNOWN_ANNOTATOR,
        project_id=known.project_id,
        task_id=_number(known.task.get("id")),
        annotation_id=_number(annotation.get("id")),
        updated_at=when if isinstance(when, str) else None,
        selection=pair.selection,
        lead_time=_seconds(annotation.get("lead_time")),
        sides=None if pair.repeat else known.sides,  # they are those of the first time, swapped
        untouched=known.untouched,
        repeat=pair.repeat,
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LONGEST_S else None


def _whole_prompt(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return whole(prompt)
    return tuple(Message(turn.role, whole(turn.content)) for turn in prompt)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
