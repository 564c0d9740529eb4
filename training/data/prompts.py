"""A prompt: a text, or the messages of a conversation that the answer continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from training.errors import DataError

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""A text, or a conversation of at least one message. Both are hashable, and equal only if they are the same form."""


def prompt_from_json(value: Any) -> Prompt:
    """Read a prompt: a string, a number (as its text), or a list of messages with `role` and `content`.

    Raises:
        DataError: it is neither, a message has no text, or its role is unknown.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
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


def _message(item: Any) -> Message:
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, str):
        raise DataError("a message of a prompt can't be read", got=item, expected='{"role": "user", "content": "..."}')
    role = item.get("role")
    if role not in ROLES:
        raise DataError("a message has an unknown role", got=role, expected=f"one of {', '.join(ROLES)}")
    return Message(role, content)
