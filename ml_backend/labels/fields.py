"""A labeling configuration as the rest of the program knows it, and what its tags show of a task's data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal

from training.data import (
    Message,
    Prompt,
    Verdict,
    messages_key,
    prompt_from_json,
    prompt_in_words,
    role_called,
    shown_text,
)
from training.errors import DataError

Kind = Literal["live", "pairwise", "choices", "ratings", "ranker"]
Form = Literal["text", "html", "messages"]
TWO_SHOWN = ("pairwise", "choices", "ratings")
"""The kinds whose tasks hold two answers."""
_BLOCKS = {"p", "div", "br", "li", "tr", "ul", "ol", "table", "pre", *(f"h{n}" for n in range(1, 7))}
_UNSEEN = {"script", "style", "head", "title"}


@dataclass(frozen=True, slots=True)
class Field:
    """One tag: its name, the key of the task's data that it displays (None for an input tag), and how.

    `who` and `what` are a message's keys, for tags that show conversations.
    """

    name: str
    key: str | None = None
    form: Form = "text"
    who: str = "role"
    what: str = "content"

    def value_in(self, data: object) -> object:
        """Its value in the task's data, None if missing. Keys may be nested (`a.b`, `a[0]`)."""
        if self.key is None:
            return None
        if isinstance(data, Mapping) and self.key in data:
            return data[self.key]
        for step in re.findall(r"[^.\[\]]+", self.key):
            if isinstance(data, Mapping):
                data = data.get(step)
            elif isinstance(data, list) and step.isdecimal() and len(step) < 10 and int(step) < len(data):
                data = data[int(step)]
            else:
                return None
        return data

    def prompt_in(self, data: object) -> Prompt | None:
        """What it shows, a conversation where there is one; None if it is missing, or neither text nor messages."""
        value = self.value_in(data)
        text = shown_text(value)
        if text is not None:
            return visible_text(text) if self.form == "html" else text
        return self._conversation(value) if isinstance(value, list) and value else None

    def text_in(self, data: object) -> str | None:
        """What it shows, in words (blank where it shows a blank); None if it is missing."""
        shown = self.prompt_in(data)
        if isinstance(shown, tuple) and len(shown) > 1:
            return prompt_in_words(shown)
        return shown if isinstance(shown, str) or shown is None else shown[0].content

    def _conversation(self, value: list[object]) -> Prompt | None:
        """The messages; in words if a speaker is none that a model knows."""
        try:
            return prompt_from_json(value)
        except DataError:
            pass
        turns = []
        for item in value:
            known = item if isinstance(item, Mapping) else {}
            who, what = known.get(self.who), shown_text(known.get(self.what))
            if not isinstance(who, str) or what is None:
                return None
            turns.append((who, what))
        roles = [role_called(who) for who, _ in turns]
        if all(roles):
            return tuple(Message(role or "", what) for role, (_, what) in zip(roles, turns, strict=True))
        return "\n\n".join(f"{who}: {what}" for who, what in turns)


@dataclass(frozen=True, slots=True)
class ListedAnswer:
    """One answer of a List: its id in the ranking, its text, and the version that wrote it, if known."""

    id: str
    text: str
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A parsed labeling configuration.

    kind: see `ml_backend.labels.config`.
    prompts: what the prompt consists of, in order; empty if there is none ("which text is better").
    control: the tag that holds the verdict: the Choices, the Pairwise, the Ranker, or the Rating of the first answer.
    answers: the two TextAreas of a live config in document order, two shown texts (left, right), or a ranker's List.
    verdicts: the meaning of each choice that Label Studio may store, unless a Pairwise or a Ranker holds the verdict.
    target: the shown tag that the control belongs to.
    beside: the Choices beside a Pairwise that may call a tie, and what their choices mean.
    other_rating: the Rating of the second answer.
    buckets: a Ranker's Buckets, best first.
    keys: all keys of the task's data that some tag shows; Label Studio refuses tasks without them.
    """

    kind: Kind
    prompts: tuple[Field, ...]
    control: str
    answers: tuple[Field, ...]
    verdicts: Mapping[str, Verdict]
    target: str = ""
    beside: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    other_rating: str = ""
    buckets: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def prompt_key(self) -> str | None:
        """The key of the task's data that holds the prompt; None if there is no single one."""
        return self.prompts[0].key if len(self.prompts) == 1 else None

    @property
    def shows_verdicts(self) -> bool:
        """Whether a prediction can show which of a task's answers is better, and not leave it to two Ratings, say."""
        return self.kind != "ratings" and len(self.buckets) < 2

    def prompt_of(self, data: object) -> Prompt | None:
        """The prompt in a task's data; None if it is missing or blank. Without a tag for it, it is empty.

        Several texts are joined with a blank line between them; before a conversation, a text is its system message.
        """
        if not self.prompts:
            return ""
        parts = [part for part in (f.prompt_in(data) for f in self.prompts) if part is not None and _has_words(part)]
        if not parts:
            return None
        if all(isinstance(part, str) for part in parts):
            return self._kept_messages("\n\n".join(str(part) for part in parts), data)
        turns: list[Message] = []
        for part in parts:
            role = "user" if turns else "system"
            turns += [Message(role, part)] if isinstance(part, str) else part
        return tuple(turns)

    def answers_of(self, data: object) -> tuple[str, str] | None:
        """Both answers in a task's data, left and right, perhaps blank; None if one is missing or the task has none."""
        if self.kind not in TWO_SHOWN:
            return None
        left, right = (shown.text_in(data) for shown in self.answers)
        return None if left is None or right is None else (left, right)

    def items_of(self, data: object) -> list[ListedAnswer]:
        """The answers in a ranker's task that have an id and a text; empty unless the config is a ranker."""
        return listed_in(self.answers[0].value_in(data)) if self.kind == "ranker" else []

    def _kept_messages(self, text: str, data: object) -> Prompt:
        """The conversation that `text` spells out, if the task's data keep its messages."""
        key = self.prompt_key
        kept = data.get(messages_key(key)) if key is not None and isinstance(data, Mapping) else None
        try:
            turns = prompt_from_json(kept) if isinstance(kept, list) else text
        except DataError:
            return text
        return turns if prompt_in_words(turns) == text else text


def listed_in(value: object) -> list[ListedAnswer]:
    """The items of a List that have an id and a text (their body, else their HTML, else their title)."""
    items = [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
    return [answer for item in items if (answer := _listed(item)) is not None]


def visible_text(html: str) -> str:
    """The text of HTML as a browser shows it, a line a block."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _has_words(prompt: Prompt) -> bool:
    return any(text.strip() for text in ([prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]))


def _listed(item: Mapping[object, object]) -> ListedAnswer | None:
    name, version = item.get("id"), item.get("model_version")
    if isinstance(name, bool) or not isinstance(name, str | int):
        return None
    html = item.get("html")
    texts = (shown_text(item.get("body")), visible_text(html) if isinstance(html, str) else None)
    text = next((text for text in (*texts, shown_text(item.get("title"))) if text is not None and text.strip()), None)
    return None if text is None else ListedAnswer(str(name), text, version if isinstance(version, str) else None)


class _Reader(HTMLParser):
    """Collects the text between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  # as in `HTMLParser`
        self._unseen += tag in _UNSEEN
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data.replace("\n", " "))
