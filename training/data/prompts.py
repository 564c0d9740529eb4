"""A prompt: a text, or the messages of a conversation that the answer continues. The forms in which files hold both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from training.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
_ALSO_CALLED = {"human": "user", "gpt": "assistant", "ai": "assistant", "bot": "assistant", "chatbot": "assistant"}
_TURN = re.compile(r"(?:\A|\n\n)\s*(Human|User|Assistant|System):[ \t]*")
_EXACT_INTEGERS = 2**53


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""A text, or a conversation of at least one message. Both are hashable, and equal only if they are the same form."""


def prompt_from_json(value: Any) -> Prompt:
    """Read a prompt: a string, a number (as its text), or a list of messages with `role` and `content`.

    Messages with `from` and `value`, and contents in parts, are read too.

    Raises:
        DataError: it is neither, a message has no text, or its role is unknown.
    """
    text = shown_text(value)
    if text is not None:
        return text
    if not isinstance(value, list) or not value:
        raise DataError("a prompt can't be read", got=value, expected="a text, or a list of messages")
    return tuple(_message(item) for item in value)


def prompt_as_json(prompt: Prompt) -> str | list[dict[str, str]]:
    """What a file holds: the text, or the messages as objects."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in prompt]


def prompt_in_words(prompt: Prompt) -> str:
    """A prompt for people, and for models without a chat template: one message as it is, several with their roles."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in prompt)


def shown_text(value: object) -> str | None:
    """A string, number or boolean as Label Studio shows it; None for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def role_called(name: object) -> str | None:
    """The role that a speaker's name stands for (`Human` is the user); None if the name doesn't say."""
    word = name.strip().lower() if isinstance(name, str) else ""
    return word if word in ROLES else _ALSO_CALLED.get(word)


def turns_in(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript (`Human: ...`, `Assistant: ...`, a blank line before each); None if it isn't one."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns = tuple(
        Message(role_called(mark[1]) or "user", text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )
    return turns if any(turn.role == "assistant" for turn in turns) else None


def two_endings(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[tuple[Message, ...], str, str] | None:
    """Split two conversations into their common beginning and one answer each.

    Returns:
        The beginning (may be empty), the answer that ends the first, and the one that ends the second; None unless
        each goes on with a single turn of the assistant.
    """
    length = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        length += 1
    endings = [*chosen[length:], *rejected[length:]]
    if len(endings) != 2 or not all(message.role == "assistant" for message in endings):
        return None
    return tuple(chosen[:length]), endings[0].content, endings[1].content


def messages_key(key: str) -> str:
    """Where a task's data keep the messages of a conversation whose words stand under `key`."""
    return f"{key}_messages"


def _message(item: Any) -> Message:
    known = item if isinstance(item, dict) else {}
    role, content = known.get("role", known.get("from")), known.get("content", known.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text") for part in content]
        content = "\n".join(texts) if all(isinstance(text, str) for text in texts) else None
    if not isinstance(content, str):
        raise DataError("a message of a prompt can't be read", got=item, expected='{"role": "user", "content": "..."}')
    known_role = role_called(role)
    if known_role is None:
        raise DataError("a message has an unknown role", got=role, expected=f"one of {', '.join(ROLES)}")
    return Message(known_role, content)
