"""The tags of a labeling configuration: parsed safely, in document order, as Label Studio understands them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ml_backend.errors import LabelConfigError
from ml_backend.labels.fields import Field, Form
from ml_backend.labels.verdict_words import plain_word

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 200
"""Far beyond any real configuration; it bounds the time that a malicious one can take."""
MAX_TAGS = 20_000

NEEDED = (
    "two TextAreas and a Choices over one Text, or a Pairwise, a Choices or two Ratings over two Texts, "
    "or a Ranker over a List"
)
REMEDY = "Start from label_config.xml, label_configs/pairwise.xml or label_configs/ranker.xml of this project."

_PLAIN = {"text", "markdown", "header"}
_MESSAGES = {"paragraphs": ("author", "text"), "chat": ("role", "content")}
SHOWING = _PLAIN | set(_MESSAGES) | {"hypertext"}
"""Tags that show a text of the task."""
PROMPT = "prompt"
_ALSO_ASKED = {
    *("system", "systemprompt", "systemmessage", "instruction", "instructions", "context", "input", "question"),
    *("query", "history", "conversation", "dialogue", "dialog", "chat", "messages", "document", "passage", "article"),
}
"""Names of texts that a prompt is incomplete without: beside one of them, even a Text named prompt isn't all of it."""
_KEY = re.compile(r"\$([A-Za-z_][\w.\[\]]{0,199})")


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, with its attributes' names in lower case: Label Studio ignores the case of both."""

    kind: str
    attributes: Mapping[str, str]
    element: Element

    @classmethod
    def of(cls, element: Element) -> Tag:
        """The tag of an XML element."""
        attributes = {name.lower(): value.strip() for name, value in element.attrib.items()}
        return cls(element.tag.lower(), attributes, element)

    @property
    def name(self) -> str:
        """Its `name`, empty if it has none."""
        return self.attributes.get("name", "")

    @property
    def targets(self) -> list[str]:
        """The names in `toName`."""
        return [name.strip() for name in self.attributes.get("toname", "").split(",")]

    @property
    def keys(self) -> list[str]:
        """The keys of the task's data that its value shows, also amid other words (`Question: $question`)."""
        value = self.attributes.get("value", "")
        found = (match.rstrip(".") for match in _KEY.findall(value))
        return [] if "{{" in value else list(dict.fromkeys(found))  # a Repeater fills in what stands in {{ }}

    @property
    def per_region(self) -> bool:
        """Whether it describes a region or an item instead of the whole task."""
        return any(self.attributes.get(name, "").lower() == "true" for name in ("perregion", "peritem"))

    @property
    def shown(self) -> list[Field]:
        """The texts of the task that it shows; none if they are addresses of texts elsewhere."""
        if self.kind not in SHOWING or self.attributes.get("valuetype", "text").lower() == "url":
            return []
        form: Form = "html" if self.kind == "hypertext" else "messages" if self.kind in _MESSAGES else "text"
        who, what = _MESSAGES.get(self.kind, ("role", "content"))
        who, what = self.attributes.get("namekey", who), self.attributes.get("textkey", what)
        return [Field(self.name, key, form, who, what) for key in self.keys]

    def describe(self) -> str:
        """Its tag and name, as written."""
        return f"{self.element.tag} {self.name}".strip()


def parse_tags(xml: str) -> list[Tag]:
    """All tags in document order.

    Raises:
        LabelConfigError: it isn't valid XML, declares entities, is too large or nested too deeply.
    """
    return [Tag.of(element) for element in _elements(_parse(xml)) if isinstance(element.tag, str)]


def named(tags: Iterable[Tag], *kinds: str) -> list[Tag]:
    """The tags of these kinds that have a name."""
    return [tag for tag in tags if tag.kind in kinds and tag.name]


def inside(tag: Tag, kind: str) -> list[Tag]:
    """The tags of a kind inside another, in document order."""
    elements = (element for element in tag.element.iter() if isinstance(element.tag, str))
    return [found for found in map(Tag.of, elements) if found.kind == kind]


def refusal(tags: Sequence[Tag], what: str, remedy: str = REMEDY) -> LabelConfigError:
    """The error that says what is wrong and what the configuration contains."""
    found = [tag.describe() for tag in tags if tag.name]
    return LabelConfigError(what, got=", ".join(found) or "no named tags", expected=NEEDED, remedy=remedy)


def prompts_in(tags: Sequence[Tag], answers: Sequence[Field], wanted: Sequence[str]) -> tuple[Field, ...]:
    """The texts that are the prompt: those that were named, else the only one, else the one named prompt.

    Raises:
        LabelConfigError: there are several, and nobody says which; or there is none of a name that was given.
    """
    keys = {answer.key for answer in answers}
    shown = {text.key: text for tag in tags for text in tag.shown if text.key not in keys}
    texts = list(shown.values())
    if wanted:
        return tuple(_wanted(tags, texts, name) for name in wanted)
    if len(texts) <= 1:
        return tuple(texts)
    calls = [{plain_word(text.name), plain_word(text.key or "")} for text in texts]
    prompts = [text for text, names in zip(texts, calls, strict=True) if PROMPT in names]
    others = [text for text, names in zip(texts, calls, strict=True) if PROMPT not in names and names & _ALSO_ASKED]
    if len(prompts) == 1 and not others:
        return (prompts[0],)
    names_of = ", ".join(text.name or str(text.key) for text in texts)
    raise refusal(
        tags,
        f"several texts could be the prompt: {names_of}",
        "Say which with --prompt-field NAME; given several times, the texts are joined in that order.",
    )


def _wanted(tags: Sequence[Tag], texts: Sequence[Field], name: str) -> Field:
    found = [text for text in texts if name in (text.name, text.key)]
    found = found or [text for text in texts if plain_word(name) in (plain_word(text.name), plain_word(text.key or ""))]
    if len(found) != 1:
        names = ", ".join(text.name or str(text.key) for text in texts) or "none"
        raise refusal(tags, f"no text of the task is called {name!r}", f"The texts beside the answers are: {names}.")
    return found[0]


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
    except (ParseError, ValueError, TypeError, LookupError) as error:
        raise LabelConfigError(f"the labeling configuration isn't XML ({error})", got=xml, remedy=REMEDY) from error
    return root


def _elements(root: Element) -> Iterator[Element]:
    """All elements in document order."""
    open_ones, seen = [iter([root])], 0
    while open_ones:
        element = next(open_ones[-1], None)
        if element is None:
            open_ones.pop()
            continue
        yield element
        seen += 1
        if len(open_ones) >= MAX_DEPTH:
            raise LabelConfigError("the labeling config is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
        if seen > MAX_TAGS:
            raise LabelConfigError("the labeling config has too many tags", expected=f"at most {MAX_TAGS}")
        open_ones.append(iter(element))


def why_not(tags: Sequence[Tag]) -> tuple[str, str]:
    """What a configuration without two answers and a verdict asks instead, and what to change."""
    live = "To compare two proposed answers, add a second TextArea and a Choices: start from label_config.xml."
    compare = "To learn from people, compare two answers: start from label_config.xml or label_configs/pairwise.xml."
    areas = [tag for tag in named(tags, "textarea") if not tag.per_region]
    choices = named(tags, "choices")
    if any(tag.keys for tag in choices):
        remedy = "Show the answers in a List and rank them with a Ranker: start from label_configs/ranker.xml."
        return "the choices come from the task, so that what they mean isn't known", remedy
    if named(tags, "image", "audio", "video") and not named(tags, "text"):
        return "it shows no texts, and only texts can be compared", compare
    if named(tags, "chat") and not areas:
        return "it has a Chat written or judged by itself, with nothing to compare it with", compare
    if named(tags, "rating", "number"):
        return "it rates single texts, which doesn't say which of two answers is better", compare
    if len(areas) == 1 and not choices:
        return "it asks for one answer, with nothing to compare it with", live
    if areas:
        return "no Text has two TextAreas for the answers and a Choices that asks which is better", REMEDY
    if choices:
        return "no Choices asks which of two answers is better", compare
    return "the labeling configuration has no answers to compare", REMEDY
