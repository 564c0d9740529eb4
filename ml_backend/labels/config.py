"""Recognises Label Studio's labeling configurations: which tags hold the prompt, the answers and the verdict.

Five kinds are recognised by their tags, whatever the tags' names:

live      two TextAreas and a Choices over one Text: the backend proposes both answers, the choice is the verdict
pairwise  a Pairwise over two Texts: the task supplies both answers
choices   a Choices about two Texts: the task supplies both answers, the choice is the verdict
ratings   a Rating for each of two Texts: the one with more stars is better, as many are a tie
ranker    a Ranker over a List: the task supplies any number of answers

Where the tags leave open which text is the prompt, or which side an answer is on, the configuration is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ml_backend.labels.fields import Field, LabelConfig
from ml_backend.labels.tags import PROMPT, Tag, inside, named, parse_tags, prompts_in, refusal, why_not
from ml_backend.labels.verdict_words import (
    bucket_order,
    counts_on,
    is_further,
    names_a_position,
    plain_word,
    side_named,
    verdict_called,
    without_praise,
)
from training.data import Verdict

_NOTE = re.compile(r"\s*<!--\s*rankloop:\s*prompt\s*=\s*([^<>]*?)\s*-->")
_DECIDING = ("verdict", "overall", "preference", "winner")
_MORE_THAN_TWO = (
    "the Choices has values beyond two answers, or on a scale",
    "Show more than two answers in a List and rank them with a Ranker: see label_configs/ranker.xml.",
)
_TIES = {Verdict.TIE, Verdict.BOTH_BAD}
_SIDES = (Verdict.ANSWER1, Verdict.ANSWER2)


def parse_label_config(xml: str, prompt_fields: Sequence[str] = ()) -> LabelConfig:
    """Recognise a labeling configuration by its tags.

    Args:
        xml: the configuration.
        prompt_fields: names or keys of the texts that are the prompt, in order; empty for what the configuration itself
            notes (`with_prompt_fields`), or the only one there is.

    Raises:
        LabelConfigError: it isn't valid XML, declares entities, is too large, lacks two answers and a verdict, or
            leaves open what is what; says what was found and what to change.
    """
    tags = parse_tags(xml)
    note = _NOTE.search(xml)
    wanted = list(prompt_fields) or [name for name in re.split(r"\s*,\s*", note[1] if note else "") if name]
    controls = _deciding([*named(tags, "ranker"), *named(tags, "pairwise")])
    if len(controls) > 1:
        what = f"several tags ask which answer is better: {', '.join(tag.describe() for tag in controls)}"
        raise refusal(tags, what, 'Keep one, or name one of them "verdict".')
    if controls:
        return (_ranker if controls[0].kind == "ranker" else _pairwise)(tags, controls[0], wanted)
    return _live(tags, wanted) or _choices(tags, wanted) or _ratings(tags, wanted) or _refused(tags)


def with_prompt_fields(xml: str, prompt_fields: Sequence[str]) -> str:
    """The configuration with a comment that names the prompt's texts, so that everyone who reads it agrees.

    Raises:
        LabelConfigError: it can't be read with these fields.
    """
    parse_label_config(xml, prompt_fields)
    return f"{_NOTE.sub('', xml).rstrip()}\n<!-- rankloop: prompt = {', '.join(prompt_fields)} -->\n"


def _refused(tags: Sequence[Tag]) -> LabelConfig:
    if _counts_on(tags):
        raise refusal(tags, *_MORE_THAN_TWO)
    raise refusal(tags, *why_not(tags))


def _ranker(tags: Sequence[Tag], control: Tag, wanted: Sequence[str]) -> LabelConfig:
    lists = {tag.name: tag for tag in named(tags, "list")}
    if len(control.targets) != 1 or control.targets[0] not in lists:
        raise refusal(tags, "the Ranker doesn't rank a List")
    shown = lists[control.targets[0]]
    buckets = [tag.name for tag in inside(control, "bucket")]
    order = bucket_order(buckets, [tag.attributes.get("title", "") for tag in inside(control, "bucket")])
    if order is None:
        raise refusal(
            tags,
            f"the Ranker sorts into {len(buckets)} Buckets ({', '.join(buckets)}) whose order isn't known, "
            "so that no annotation could be used",
            "Remove the Buckets, or give them names that say which is better: best and worst, good and bad, 1 and 2.",
        )
    if len(shown.keys) != 1:
        raise refusal(tags, "the List shows no items of the task", 'Give it a value like "$items".')
    answers = (Field(shown.name, shown.keys[0]),)
    prompts = prompts_in(tags, answers, wanted)
    return LabelConfig("ranker", prompts, control.name, answers, {}, shown.name, buckets=order, keys=_keys(tags))


def _pairwise(tags: Sequence[Tag], control: Tag, wanted: Sequence[str]) -> LabelConfig:
    texts = {tag.name: tag for tag in tags if tag.shown and tag.name}
    names = control.targets
    if len(names) != 2 or names[0] == names[1] or not all(name in texts for name in names):
        raise refusal(tags, f"the Pairwise compares {', '.join(names) or 'nothing'}, not two Texts of the task")
    answers = tuple(_only(tags, texts[name]) for name in names)
    asked = _verdict_choices(tags, answers, least=frozenset())
    beside = {tag.name: known for tag, known in asked if set(known.values()) <= _TIES}  # the others ask for more
    prompts = prompts_in(tags, answers, wanted)
    return LabelConfig("pairwise", prompts, control.name, answers, {}, names[0], beside, keys=_keys(tags))


def _live(tags: Sequence[Tag], wanted: Sequence[str]) -> LabelConfig | None:
    """Two TextAreas on one shown text; None if there are none."""
    areas: dict[str, list[Tag]] = {}
    for tag in named(tags, "textarea"):
        if not tag.per_region and len(tag.targets) == 1:
            areas.setdefault(tag.targets[0], []).append(tag)
    shown = [tag for tag in tags if tag.kind != "header" and tag.name in areas]
    pairs = [(tag, pair) for tag in shown if (pair := _two_answers(areas[tag.name]))]
    if not pairs:
        return None
    target, found = pairs[0]
    texts, meant = _texts(tags), [Field(area.name) for area in found]
    telling = all(side_named(area.name) for area in found) or any(
        _names_two(tag, meant) for tag in named(tags, "choices")
    )
    if not telling and (_sided(texts) or len(texts) > 2):
        return None  # the answers may stand in the task, and the TextAreas ask for something else
    if not target.shown:
        what = f"the {target.describe()!r} doesn't show a text of the task"
        raise refusal(tags, what, 'Give it a value like "$prompt", and no valueType.')
    answers = tuple(Field(area.name) for area in found)
    verdict, meanings = _the_verdict(tags, answers)
    prompts = prompts_in(tags, (), wanted)
    return LabelConfig("live", prompts, verdict.name, answers, meanings, target.name, keys=_keys(tags))


def _choices(tags: Sequence[Tag], wanted: Sequence[str]) -> LabelConfig | None:
    """A Choices about two shown texts; None if no Choices asks which is better."""
    texts = _texts(tags)
    asked = [tag for tag, _ in _verdict_choices(tags, ())]
    asked = asked or [tag for tag in named(tags, "choices") if not tag.per_region and _names_two(tag, texts)]
    if not asked or (len(texts) < 2 and named(tags, "textarea")):
        return None
    answers = _two_shown(tags, texts, asked, wanted)
    verdict, meanings = _the_verdict(tags, answers)
    prompts = prompts_in(tags, answers, wanted)
    target = verdict.targets[0]
    return LabelConfig("choices", prompts, verdict.name, answers, meanings, target, keys=_keys(tags))


def _ratings(tags: Sequence[Tag], wanted: Sequence[str]) -> LabelConfig | None:
    """One Rating for each of two shown texts; None if there are none."""
    texts = {text.name: text for text in _texts(tags) if text.name}
    ratings = [tag for tag in named(tags, "rating") if not tag.per_region and tag.targets[0] in texts]
    rated = list(dict.fromkeys(tag.targets[0] for tag in ratings))
    if len(rated) != 2:
        return None
    if len(ratings) != 2:
        remedy = "Keep one Rating for each answer, or ask which answer is better with a Pairwise."
        raise refusal(tags, "several Ratings for one answer don't say which answer is better", remedy)
    answers = tuple(texts[name] for name in rated)
    first, second = (next(tag.name for tag in ratings if tag.targets[0] == name) for name in rated)
    prompts = prompts_in(tags, answers, wanted)
    return LabelConfig("ratings", prompts, first, answers, {}, rated[0], other_rating=second, keys=_keys(tags))


def _two_answers(areas: Sequence[Tag]) -> Sequence[Tag]:
    """The two TextAreas for answers. If there are more (for comments, say), those with names like an answer's."""
    sided = {side: [area for area in areas if side_named(area.name) is side] for side in _SIDES}
    if all(len(found) == 1 for found in sided.values()):
        return [found[0] for found in sided.values()]
    return areas if len(areas) == 2 else []


def _texts(tags: Sequence[Tag]) -> list[Field]:
    """What the tags show, Headers aside."""
    return [text for tag in tags if tag.kind != "header" for text in tag.shown]


def _sided(texts: Sequence[Field]) -> tuple[Field, Field] | None:
    """The two texts whose names (or keys) say which side they are on; None unless there is one of each."""
    found = [[t for t in texts if side in (side_named(t.name), side_named(t.key or ""))] for side in _SIDES]
    return (found[0][0], found[1][0]) if [len(texts) for texts in found] == [1, 1] else None


def _two_shown(
    tags: Sequence[Tag], texts: Sequence[Field], asked: Sequence[Tag], wanted: Sequence[str]
) -> tuple[Field, ...]:
    """The two texts that a Choices compares: by their names, by its choices, or the only two beside the prompt."""
    if any(counts_on(text.name) or counts_on(text.key or "") for text in texts):
        raise refusal(tags, *_MORE_THAN_TWO)
    sided = _sided(texts)
    if sided:
        return sided
    stored = {without_praise(value) for tag in asked for value in _stored_in(tag)}
    own = [text for text in texts if stored & {plain_word(text.name), plain_word(text.key or "")}]
    if len(own) == 2:
        return tuple(own)
    others = [text for text in texts if not ({text.name, text.key} & {*wanted, PROMPT})]
    if len(others) != 2:
        found = ", ".join(text.name or str(text.key) for text in texts)
        remedy = "Name the two Texts answer1 and answer2, or say which text is the prompt with --prompt-field."
        raise refusal(tags, f"a Choices asks which answer is better, but not of which two texts ({found})", remedy)
    return tuple(others)


def _the_verdict(tags: Sequence[Tag], answers: Sequence[Field]) -> tuple[Tag, dict[str, Verdict]]:
    """The one Choices that asks which answer is better, and what each of its choices means."""
    asked = _verdict_choices(tags, answers)
    deciding = _deciding([tag for tag, _ in asked])
    found = [(tag, known) for tag, known in asked if tag in deciding]
    if not found and _counts_on(tags):
        raise refusal(tags, *_MORE_THAN_TWO)
    if len(found) != 1:
        what = "no Choices, or more than one, asks which answer is better"
        remedy = 'Give its choices alias="answer1", "answer2", "tie" and "both_bad"; of several, name one "verdict".'
        raise refusal(tags, what, remedy)
    if _out_of_order(tags, answers) and any(map(names_a_position, found[0][1])):
        what = f"the page shows {answers[1].name!r} before {answers[0].name!r}, so that left and right are unclear"
        raise refusal(tags, what, "Show them in the order of their names, or call the choices by the answers' names.")
    return found[0]


def _verdict_choices(
    tags: Sequence[Tag], answers: Sequence[Field], least: frozenset[Verdict] = frozenset(_SIDES)
) -> list[tuple[Tag, dict[str, Verdict]]]:
    """Each Choices whose values are verdicts: among them those in `least`, or a tie if that is empty."""
    own = {
        plain_word(name): side
        for side, answer in zip(_SIDES, answers, strict=False)
        for name in (answer.name, answer.key)
        if name
    }

    def meaning(word: str) -> Verdict | None:
        return own.get(without_praise(word)) or verdict_called(word)

    found = []
    for tag in named(tags, "choices"):
        stored = _stored_in(tag)
        # What people read counts only where all aliases say nothing, such as c1 and c2.
        told = {value: value for value in stored} if any(map(meaning, stored)) else stored
        words = (*stored, *told.values())
        if tag.per_region or any(is_further(word) and without_praise(word) not in own for word in words):
            continue
        known = {value: verdict for value, word in told.items() if (verdict := meaning(word))}
        if known and least <= set(known.values()) and (least or _TIES & set(known.values())):
            found.append((tag, known))
    return found


def _deciding(controls: Sequence[Tag]) -> list[Tag]:
    """Of several tags that ask which answer is better, the one that is called the verdict; all if there is none."""
    for name in _DECIDING:
        called = [tag for tag in controls if tag.name.lower() == name]
        if called:
            return called
    return list(controls)


def _names_two(tag: Tag, texts: Sequence[Field]) -> bool:
    """Whether a Choices calls two of the texts by their names."""
    stored = {without_praise(value) for value in _stored_in(tag)} - {""}
    return sum(bool(stored & {plain_word(text.name), plain_word(text.key or "")}) for text in texts) == 2


def _counts_on(tags: Sequence[Tag]) -> bool:
    """Whether a Choices asks about a third answer."""
    return any(is_further(value) for tag in named(tags, "choices") if not tag.keys for value in _stored_in(tag))


def _out_of_order(tags: Sequence[Tag], answers: Sequence[Field]) -> bool:
    names = [tag.name for tag in tags]
    return names.index(answers[0].name) > names.index(answers[1].name)


def _stored_in(choices: Tag) -> dict[str, str]:
    """What Label Studio may store for a Choices, each choice's alias or else its value, and what people read."""
    found = [tag.attributes for tag in inside(choices, "choice")]
    shown = [attributes.get("value", "") for attributes in found]
    return {attributes.get("alias") or value: value for attributes, value in zip(found, shown, strict=True)}


def _only(tags: Sequence[Tag], tag: Tag) -> Field:
    if len(tag.shown) != 1:
        raise refusal(tags, f"the {tag.describe()!r} doesn't show one text of the task", 'Give it a value like "$a".')
    return tag.shown[0]


def _keys(tags: Sequence[Tag]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for tag in tags for key in tag.keys))
