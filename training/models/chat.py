"""Conversations as a model's own chat template writes them, in which people's text never becomes a special token.

The special tokens of a rendered conversation have to be those of the same conversation with placeholders for people's
text. Where a text adds one (it holds `<|im_end|>`, say), the marker is broken up before it is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from training.data import Message
from training.errors import DataError, ModelError, first_line

_TEXTS_AT_ONCE = 1024  # a tokenizer's other output takes many times the memory of the ids
_PRIVATE_USE = range(0xE000, 0xE040)  # characters without a meaning: placeholders, and breaks within markers
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"

# A template that tells the date is told this one, since a version's prompts must be the same on every day.
_DATE = datetime(2024, 7, 26, 12)
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{part}', '{_DATE:%{part}}')" for part in "aAbBcdeHIjmMpSxXyYZ")
    + " }}{%- endmacro -%}"
)

Render = Callable[[Sequence[str]], str]
"""Puts people's texts into the text around them."""


class Verbatim:
    """Encodes text in which only what isn't people's may hold control tokens.

    Control tokens are the tokenizer's special tokens, and other added tokens that the chat template writes.

    Args:
        tokenizer: a transformers tokenizer.
        template: the chat template's source, empty if there is none.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        found = {int(i): str(token) for i, token in added if token.special or _is_marker(str(token), template)}
        unknown = tokenizer.unk_token_id  # what characters that the tokenizer doesn't know rightly become
        if unknown not in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
            found.pop(unknown, None)
        self.controls = {text: i for i, text in found.items() if text}
        self._ids = frozenset(found)
        longest_first = sorted(self.controls, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def controls_in(self, ids: Sequence[int]) -> list[int]:
        """The control tokens among `ids`, in order."""
        return [i for i in ids if i in self._ids]

    def encode(self, texts: Sequence[str], *, split_special_tokens: bool = False) -> list[list[int]]:
        """Encode texts as the tokenizer does, without adding special tokens."""
        found: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            encoded = self.tokenizer(
                part, add_special_tokens=False, split_special_tokens=split_special_tokens, verbose=False
            )
            found.extend(encoded["input_ids"])
        return found

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts that are all people's."""
        found = self.encode(texts, split_special_tokens=True)
        return [
            self.broken_up(lambda given: given[0], [text], []) if self.controls_in(ids) else ids
            for text, ids in zip(texts, found, strict=True)
        ]

    def broken_up(self, render: Render, texts: Sequence[str], expected: Sequence[int]) -> list[int]:
        """Encode with a break within each marker that people's texts hold, and leave out the breaks' own tokens.

        Args:
            render: puts the texts into what surrounds them.
            texts: people's texts.
            expected: the control tokens that the surroundings have.

        Raises:
            DataError: the tokenizer gives control tokens whatever is done.
        """
        if not getattr(self.tokenizer, "is_fast", False):  # it can't say which tokens the breaks became
            ids = self.encode([render([self._marked(text, " ") for text in texts])])[0]
            if self.controls_in(ids) == list(expected):
                return ids
        else:
            for within in (self._marked, _spread):
                for mark in _unused(texts):
                    found = self._without(mark, render([within(text, mark) for text in texts]))
                    if found is not None and self.controls_in(found) == list(expected):
                        return found
        raise DataError(
            "the tokenizer reads a text's characters as its own special tokens",
            got=list(texts),
            expected="text that can be told apart from special tokens",
            remedy="Leave such texts out, or choose a model with another tokenizer.",
        )

    def _marked(self, text: str, mark: str) -> str:
        return self.pattern.sub(lambda match: match[0][0] + mark + match[0][1:], text)

    def _without(self, mark: str, text: str) -> list[int] | None:
        """Encode, then drop the tokens of `mark`; None if one of them is more than that."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = []
        for i, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            covered = text[start:end]
            if mark not in covered or not covered:
                ids.append(i)
            elif covered.strip(mark):
                return None
        return ids


class ChatTemplate:
    """A tokenizer's chat template: conversations up to where the answer begins, and answers up to their end.

    Args:
        tokenizer: a transformers tokenizer that has a chat template.
        system_prompt: what the model is told before every conversation that has no system message of its own; a
            template that knows no system role gets it at the beginning of the first message.

    Attributes:
        verbatim: encodes text around which the template's tokens stand.
        source: the template as it came.
        dated: the template as it is used: one that tells the date is told the same date every day.
        end_id: the token that ends an answer, None if the template writes none.
        opening: the template's text before an answer, from its last control token on.
        lead, trail: what the template writes between that and the answer, and between the answer and its end.

    Raises:
        ModelError: the template doesn't work.
    """

    def __init__(self, tokenizer: Any, system_prompt: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt
        self._skeletons: dict[tuple[str, ...], tuple[str, list[int]]] = {}
        try:
            self.source = str(tokenizer.get_chat_template())
        except ValueError as error:
            raise _unusable(first_line(error)) from error
        self.dated = f"{_FIXED_DATE}{self.source}" if "strftime_now" in self.source else self.source
        self.verbatim = Verbatim(tokenizer, self.source)
        self._knows_system = self._writes_system()
        self.opening, self.lead, self.trail, self.end_id = self._answer_parts()

    def messages_of(self, prompt: str | tuple[Message, ...]) -> list[Message]:
        """A prompt as messages: a text is one message of a user, and the system prompt goes before it."""
        messages = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
        if self._system_prompt and messages[0].role != "system":
            messages.insert(0, Message("system", self._system_prompt))
        if messages[0].role == "system" and not self._knows_system and len(messages) > 1:
            system, first = messages[0], messages[1]
            messages[:2] = [Message(first.role, f"{system.content}\n\n{first.content}")]
        return messages

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Encode conversations, up to where the answer begins.

        Raises:
            DataError: the template refuses a conversation, or leaves out one of its messages.
        """
        chats = [self._accepted(messages) for messages in conversations]
        encoded = self.verbatim.encode([self._render(messages) for messages in chats])
        return [self._checked(messages, ids) for messages, ids in zip(chats, encoded, strict=True)]

    def _checked(self, messages: Sequence[Message], ids: list[int]) -> list[int]:
        _, expected = self._skeleton(messages)
        if self.verbatim.controls_in(ids) == expected:
            return ids

        def render(texts: Sequence[str]) -> str:
            return self._render([Message(m.role, text) for m, text in zip(messages, texts, strict=True)])

        return self.verbatim.broken_up(render, [message.content for message in messages], expected)

    def _accepted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, or if the template refuses them, with neighbours of one role joined."""
        try:
            self._skeleton(messages)
        except DataError:
            joined = _joined(messages)
            if len(joined) == len(messages):
                raise
            self._skeleton(joined)
            return joined
        return list(messages)

    def _skeleton(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """The conversation with placeholders for its texts, and its control tokens; known for each order of roles."""
        roles = tuple(message.role for message in messages)
        if roles not in self._skeletons:
            text = self._render([Message(role, _placeholder(i)) for i, role in enumerate(roles)])
            missing = [role for i, role in enumerate(roles) if _placeholder(i) not in text]
            if missing:
                raise DataError("the model's chat template leaves out a message", got=f"one of role {missing[0]}")
            self._skeletons[roles] = text, self.verbatim.controls_in(self.verbatim.encode([text])[0])
        return self._skeletons[roles]

    def _render(self, messages: Sequence[Message], *, answering: bool = True) -> str:
        given = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    given, chat_template=self.dated, tokenize=False, add_generation_prompt=answering
                )
            )
        except Exception as error:  # a template is a program, and may fail in any way
            raise DataError(
                "the model's chat template refuses a conversation",
                got=[message.role for message in messages],
                remedy=f"It says: {first_line(error)}",
            ) from error

    def _writes_system(self) -> bool:
        try:
            text = self._render([Message("system", _placeholder(0)), Message("user", _placeholder(1))])
        except DataError:
            return False
        return _placeholder(0) in text

    def _answer_parts(self) -> tuple[str, str, str, int | None]:
        question, answer = Message("user", "x"), Message("assistant", _placeholder(0))
        try:
            before = self._render([question])
            whole = self._render([question, answer], answering=False)
        except DataError as error:
            raise _unusable(error.remedy or str(error)) from error
        head, found, tail = whole.partition(answer.content)
        if not found or "x" not in before:
            raise _unusable("It leaves out the text of a message.")
        markers = list(self.verbatim.pattern.finditer(before))
        opening = before[markers[-1].start() :] if markers else before
        lead = head[len(before) :] if head.startswith(before) else ""
        end = self.verbatim.pattern.search(tail)
        if end is None:
            return opening, lead, "", None
        return opening, lead, tail[: end.start()], self.verbatim.controls[end[0]]


def _is_marker(token: str, template: str) -> bool:
    """Whether an added token that isn't special is one of the template's marks, as `<think>` may be."""
    return bool(token.strip()) and not token.isalnum() and len(token) > 1 and token in template


def _placeholder(number: int) -> str:
    return f"{_OPEN}{number}{_CLOSE}"


def _spread(text: str, mark: str) -> str:
    return mark.join(text)


def _unused(texts: Sequence[str]) -> Iterator[str]:
    taken = set("".join(texts))
    return (chr(code) for code in _PRIVATE_USE if chr(code) not in taken)


def _joined(messages: Sequence[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            joined[-1] = Message(message.role, f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(message)
    return joined


def _unusable(reason: str) -> ModelError:
    return ModelError(
        "the model's chat template doesn't work",
        expected="one that renders a user's message and an assistant's",
        remedy=f"Mend it, or set text.chat_template to off. ({reason})",
    )
