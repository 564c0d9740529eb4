"""Label Studio's labeling configuration: which tags hold the prompt, the answers and the verdict.

Three kinds are recognised by their tags, whatever the tags' names:

live      two TextAreas and a Choices over one Text: the backend proposes both answers, the choice is the verdict
pairwise  a Pairwise over two Texts: the task supplies both answers
ranker    a Ranker over a List: the task supplies any number of answers
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ml_backend.errors import LabelConfigError
from ml_backend.labels.verdict_words import plain_word, verdict_called
from training.data import Verdict

Kind = Literal["live", "pairwise", "ranker"]

_NEEDED = (
    "two TextAreas and a Choices over one Text, or a Pairwise over two Texts, or a Ranker over a List without Buckets"
)
_REMEDY = "Start from label_config.xml, label_configs/pairwise.xml or label_configs/ranker.xml of this project."
_TEXT_TAGS = {"text", "hypertext"}
_KEY = re.compile(r"\$[\w.\[\]]{1,200}")
MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 200
"""Far beyond any real configuration; it bounds the time that a malicious one can take."""


@dataclass(frozen=True, slots=True)
class Field:
    """One tag: its name, and the key of the task's data that it displays (None for an input tag)."""

    name: str
    key: str | None = None

    def value_in(self, data: object) -> object:
        """Its value in the task's data, None if missing. Keys may be nested (`a.b`, `a[0]`)."""
        if self.key is None:
            return None
        for step in re.findall(r"[^.\[\]]+", self.key):
            if isinstance(data, Mapping):
                data = data.get(step)
            elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
                data = data[int(step)]
            else:
                return None
        return data

    def text_in(self, data: object) -> str | None:
        """Its text in the task's data; None if missing, blank or not a string."""
        value = self.value_in(data)
        return value if isinstance(value, str) and value.strip() else None


@dataclass(frozen=True, slots=True)
class ListedAnswer:
    """One answer of a List: its id in the ranking, its text, and the version that wrote it, if known."""

    id: str
    text: str
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A parsed labeling configuration.

    `control` is the tag that holds the verdict: the Choices, the Pairwise or the Ranker. `answers` are the two
    TextAreas of a live config in document order, the two Texts of a pairwise one (left, right), or the one List
    of a ranker. `verdicts` maps each choice that Label Studio may store to its meaning; empty unless live.
    """

    kind: Kind
    prompt: Field
    control: str
    answers: tuple[Field, ...]
    verdicts: Mapping[str, Verdict]

    def prompt_of(self, data: object) -> str | None:
        """The prompt in a task's data, None if there is none."""
        return self.prompt.text_in(data)

    def answers_of(self, data: object) -> tuple[str, str] | None:
        """Both answers in a task's data, left and right; None if one is missing or the config isn't pairwise."""
        if self.kind != "pairwise":
            return None
        left, right = (field.text_in(data) for field in self.answers)
        return (left, right) if left and right else None

    def items_of(self, data: object) -> list[ListedAnswer]:
        """The answers in a ranker's task that have an id and a text; empty unless the config is a ranker."""
        items = self.answers[0].value_in(data) if self.kind == "ranker" else None
        return [answer for item in items if (answer := _listed(item))] if isinstance(items, list) else []


def parse_label_config(xml: str) -> LabelConfig:
    """Recognise a labeling configuration by its tags.

    Raises:
        LabelConfigError: it isn't valid XML, declares entities, is too large, or lacks two answers and a verdict;
            says what was found and what is needed.
    """
    tags = [_Tag.of(element) for element in _elements(_parse(xml)) if isinstance(element.tag, str)]
    rankers, pairwise = (_named(tags, kind) for kind in ("ranker", "pairwise"))
    if rankers:
        return _ranker(tags, rankers[0])
    if pairwise:
        return _pairwise(tags, pairwise[0])
    if _named(tags, "textarea") and _named(tags, "choices"):
        return _live(tags)
    raise _fault(tags, "the labeling configuration has no answers to compare")


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: str
    attributes: Mapping[str, str]
    element: Element

    @classmethod
    def of(cls, element: Element) -> _Tag:
        """Label Studio ignores the case of tags and attributes."""
        attributes = {name.lower(): value.strip() for name, value in element.attrib.items()}
        return cls(element.tag.lower(), attributes, element)

    @property
    def name(self) -> str:
        return self.attributes.get("name", "")

    @property
    def targets(self) -> list[str]:
        return [name.strip() for name in self.attributes.get("toname", "").split(",")]

    @property
    def key(self) -> str | None:
        value = self.attributes.get("value", "")
        return value[1:] if _KEY.fullmatch(value) else None


def _parse(xml: str) -> Element:
    if len(xml) > MAX_CHARACTERS:
        raise LabelConfigError(
            f"the labeling configuration has {len(xml)} characters", expected=f"at most {MAX_CHARACTERS}"
        )
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except DefusedXmlException as error:
        raise LabelConfigError(
            "the labeling configuration declares entities or a document type",
            got=xml,
            expected="plain tags",
            remedy="Remove the <!DOCTYPE> and <!ENTITY> lines.",
        ) from error
    except (ParseError, ValueError, TypeError) as error:
        raise LabelConfigError(f"the labeling configuration isn't XML ({error})", got=xml, remedy=_REMEDY) from error
    return root


def _elements(root: Element) -> Iterator[Element]:
    """All elements in document order. Nesting deeper than `MAX_DEPTH` is an error."""
    open_ones = [iter([root])]
    while open_ones:
        element = next(open_ones[-1], None)
        if element is None:
            open_ones.pop()
            continue
        yield element
        if len(open_ones) >= MAX_DEPTH:
            raise LabelConfigError("the labeling config is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
        open_ones.append(iter(element))


def _live(tags: Sequence[_Tag]) -> LabelConfig:
    texts = {tag.name: tag for tag in tags if tag.kind in _TEXT_TAGS}
    areas: dict[str, list[_Tag]] = {}
    for tag in _named(tags, "textarea"):
        if tag.attributes.get("perregion", "").lower() != "true" and len(tag.targets) == 1:
            areas.setdefault(tag.targets[0], []).append(tag)
    for text in texts.values():
        answers = _two_answers(areas.get(text.name, []))
        if answers:
            break
    else:
        raise _fault(tags, "no Text has two TextAreas for the answers")
    verdict, meanings = _verdict_choices(tags, answers)
    return LabelConfig("live", _shown(tags, text), verdict.name, tuple(Field(a.name) for a in answers), meanings)


def _two_answers(areas: Sequence[_Tag]) -> Sequence[_Tag]:
    """The two TextAreas for answers. If there are more (for comments, say), those with names like an answer's."""
    if len(areas) > 2:
        areas = [area for area in areas if verdict_called(area.name) in (Verdict.ANSWER1, Verdict.ANSWER2)]
    return areas if len(areas) == 2 else []


def _verdict_choices(tags: Sequence[_Tag], answers: Sequence[_Tag]) -> tuple[_Tag, dict[str, Verdict]]:
    """The Choices that asks which answer is better, and what each of its choices means."""
    own_names = {plain_word(answers[0].name): Verdict.ANSWER1, plain_word(answers[1].name): Verdict.ANSWER2}
    found = []
    for tag in _named(tags, "choices"):
        stored = [_stored(element) for element in tag.element.iter() if str(element.tag).lower() == "choice"]
        meanings = {value: own_names.get(plain_word(value)) or verdict_called(value) for value in stored}
        known = {value: verdict for value, verdict in meanings.items() if verdict}
        if {Verdict.ANSWER1, Verdict.ANSWER2} <= set(known.values()):
            found.append((tag, known))
    if len(found) > 1:
        found = [(tag, known) for tag, known in found if tag.name.lower() == "verdict"]
    if len(found) != 1:
        what = "no Choices, or more than one, asks which answer is better"
        remedy = 'Give its choices alias="answer1", "answer2", "tie" and "both_bad"; of several, name one "verdict".'
        raise _fault(tags, what, remedy)
    return found[0]


def _stored(choice: Element) -> str:
    attributes = _Tag.of(choice).attributes
    return attributes.get("alias") or attributes.get("value") or ""


def _pairwise(tags: Sequence[_Tag], control: _Tag) -> LabelConfig:
    texts = {tag.name: tag for tag in tags if tag.kind in _TEXT_TAGS}
    names = control.targets
    if len(names) != 2 or names[0] == names[1] or not all(name in texts for name in names):
        raise _fault(tags, f"the Pairwise compares {', '.join(names) or 'nothing'}, not two Texts")
    answers = tuple(_shown(tags, texts[name]) for name in names)
    return LabelConfig("pairwise", _prompt(tags, names), control.name, answers, {})


def _ranker(tags: Sequence[_Tag], control: _Tag) -> LabelConfig:
    lists = {tag.name: tag for tag in tags if tag.kind == "list"}
    if len(control.targets) != 1 or control.targets[0] not in lists:
        raise _fault(tags, "the Ranker doesn't rank a List")
    if any(tag.kind == "bucket" for tag in tags):
        raise _fault(tags, "the Ranker sorts into Buckets, which have no order", "Remove the Buckets.")
    answers = _shown(tags, lists[control.targets[0]])
    return LabelConfig("ranker", _prompt(tags, []), control.name, (answers,), {})


def _prompt(tags: Sequence[_Tag], answers: Iterable[str]) -> Field:
    """The Text (or Header) that isn't an answer; of several, the one named prompt, else the first."""
    shown = [tag for tag in tags if tag.kind in _TEXT_TAGS | {"header"} and tag.key and tag.name not in answers]
    named = [tag for tag in shown if "prompt" in (tag.name.lower(), str(tag.key).lower())]
    if not shown:
        raise _fault(tags, "no Text shows the prompt", 'Add <Text name="prompt" value="$prompt"/>.')
    return _shown(tags, (named or shown)[0])


def _shown(tags: Sequence[_Tag], tag: _Tag) -> Field:
    if tag.key is None or tag.attributes.get("valuetype", "text").lower() == "url":
        what = f"the {tag.element.tag} {tag.name!r} doesn't show a text of the task"
        raise _fault(tags, what, 'Give it a value like "$prompt", and no valueType.')
    return Field(tag.name, tag.key)


def _named(tags: Iterable[_Tag], kind: str) -> list[_Tag]:
    return [tag for tag in tags if tag.kind == kind and tag.name]


def _fault(tags: Sequence[_Tag], what: str, remedy: str = _REMEDY) -> LabelConfigError:
    found = [f"{tag.element.tag} {tag.name}".strip() for tag in tags if tag.name]
    return LabelConfigError(what, got=", ".join(found) or "no named tags", expected=_NEEDED, remedy=remedy)


def _listed(item: object) -> ListedAnswer | None:
    if not isinstance(item, Mapping):
        return None
    name, text, version = item.get("id"), item.get("body"), item.get("model_version")
    if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(text, str) or not text.strip():
        return None
    return ListedAnswer(str(name), text, version if isinstance(version, str) else None)
