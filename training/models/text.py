"""One text path for policy, reference and reward model: prompts and answers to tokens and back; padding and masks.

A tokenizer with a chat template is prompted through it. For others a sequence is prompt, separator, answer, end of
text, after the beginning-of-text token if the tokenizer adds one.

Masks are True at real tokens. Models without a pad token pad with the end-of-text token; only masks distinguish them.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from training.config import TextConfig
from training.data import Message, Prompt, prompt_in_words
from training.errors import ModelError
from training.models.chat import ChatTemplate, Verbatim
from training.models.load import end_ids_of, load_tokenizer


class TextCodec:
    """Encodes prompts and answers as tokens, and decodes answers.

    Text never becomes a special token: an end-of-text marker typed into a prompt is encoded as its characters. With a
    chat template, a prompt equals `apply_chat_template(messages, add_generation_prompt=True)`, and a prompt with its
    answer equals the template's conversation up to the end of the assistant's turn.

    What is scored is what people see: an answer as decoded, without surrounding whitespace, and encoded again
    (`as_seen`). For ordinary answers these are the sampled tokens. The log-probs that PPO learns from are always those
    of the sampled tokens, since another tokenization of the same text isn't what the policy did.

    Args:
        tokenizer: a transformers tokenizer with a token that ends an answer.
        config: template, system prompt, separator and limits.
        ends: further tokens that end an answer, as the model's generation_config.json lists them.

    Attributes:
        chat: the chat template that prompts go through; None if there is none, or it is turned off.
        eos_id: the token that is written after an answer.
        end_ids: every token that ends a sampled answer, `eos_id` among them.
        pad_id: the token that pads a batch; `eos_id` if the tokenizer has no pad token.
        truncated_prompts: how many different prompts have been truncated so far.
        truncated_answers: how many different answers have been truncated so far.

    Raises:
        ModelError: the tokenizer has no token that ends an answer, or its chat template doesn't work.
    """

    def __init__(self, tokenizer: Any, config: TextConfig | None = None, ends: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.config = config or TextConfig()
        uses_template = self.config.chat_template == "auto" and bool(tokenizer.chat_template)
        self.chat = ChatTemplate(tokenizer, self.config.system_prompt) if uses_template else None
        if self.config.system_prompt and self.chat is None:
            raise ModelError(
                "a system prompt needs a chat template, which this model doesn't have or isn't to use",
                got=self.config.system_prompt,
                remedy="Unset text.system_prompt (RANKLOOP_SYSTEM_PROMPT), or choose a chat model.",
            )
        own = None if self.chat is None else self.chat.end_id
        known = [own, tokenizer.eos_token_id, *ends]
        found = [int(i) for i in known if i is not None]
        if not found:
            raise ModelError(
                "the tokenizer has no token that ends a text", remedy="Set eos_token in its tokenizer_config.json."
            )
        self.eos_id = found[0]
        self.end_ids = tuple(dict.fromkeys(found))
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self._verbatim = Verbatim(tokenizer) if self.chat is None else self.chat.verbatim
        self._beginning = [] if self.chat is not None else _added_before(tokenizer)
        self._opening = (self.config.separator.rstrip(" ")[-1:] or ":") if self.chat is None else self.chat.opening
        self._opening_ids = self._verbatim.encode([self._opening])[0]
        line, first, joined = self._verbatim.encode_plain(["\n", "a", "\na"])
        self._line = line
        self._joins_plainly = joined == [*line, *first]  # SentencePiece puts a space before a text's first word
        self._cut_prompts: set[int] = set()  # hashes, since a server runs for long
        self._cut_answers: set[int] = set()

    @classmethod
    def load(cls, model: str, config: TextConfig | None = None) -> Self:
        """Load the codec of a model folder, a .gguf file, or a model on the Hugging Face hub.

        Raises:
            ModelError: the tokenizer can't be loaded, or has no token that ends a text.
        """
        return cls(load_tokenizer(model), config, end_ids_of(model))

    def told(self, system_prompt: str) -> Self:
        """The same codec with another system prompt."""
        config = self.config.model_copy(update={"system_prompt": system_prompt})
        return type(self)(self.tokenizer, config, self.end_ids)

    @property
    def truncated_prompts(self) -> int:
        """How many different prompts have been truncated so far."""
        return len(self._cut_prompts)

    @property
    def truncated_answers(self) -> int:
        """How many different answers have been truncated so far."""
        return len(self._cut_answers)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Encode prompts up to where the answer begins, at least one token each.

        Long ones are counted. They lose their beginning; a conversation loses its oldest turns first, and keeps the
        system message and the template's own tokens.

        Raises:
            DataError: the chat template refuses a conversation.
        """
        limit = self.config.max_prompt_tokens
        if self.chat is not None:
            encoded = self.chat.encode([self.chat.messages_of(prompt) for prompt in prompts])
        else:
            separator = self.config.separator.rstrip(" ")  # a space belongs to the next word's token, so to the answer
            texts = self._verbatim.encode_plain([prompt_in_words(prompt) + separator for prompt in prompts])
            encoded = [[*self._beginning, *ids] for ids in texts]
        self._cut_prompts.update(hash(prompt) for prompt, ids in zip(prompts, encoded, strict=True) if len(ids) > limit)
        return [self._shortened(prompt, ids, limit) for prompt, ids in zip(prompts, encoded, strict=True)]

    def encode_answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Encode answers as they follow a prompt, with their end; long ones are truncated before it and counted."""
        limit = self.config.max_answer_tokens - 1
        encoded = self._continuations([answer.strip() for answer in answers])
        self._cut_answers.update(hash(answer) for answer, ids in zip(answers, encoded, strict=True) if len(ids) > limit)
        return [[*ids[:limit], self.eos_id] for ids in encoded]

    def as_seen(self, answers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Sampled answers as people see them: decoded, stripped and encoded again, with an end whether or not cut."""
        return self.encode_answers([self.decode_answer(ids) for ids in answers])

    def fit(
        self, prompt: Prompt, answer: str, ids: tuple[list[int], list[int]], room: int
    ) -> tuple[list[int], list[int]]:
        """Truncate a sequence to what a model can read, the prompt's beginning first, and count it.

        Args:
            prompt: the prompt itself, for the count and to shorten a conversation by its turns.
            answer: the text, for the count.
            ids: both encoded, the answer with its end of text.
            room: how many tokens fit; the prompt keeps at least one.
        """
        prompt_ids, answer_ids = ids
        if len(answer_ids) > room - 1:
            self._cut_answers.add(hash(answer))
            answer_ids = [*answer_ids[: max(0, room - 2)], self.eos_id]
        left = max(1, room - len(answer_ids))
        if len(prompt_ids) > left:
            self._cut_prompts.add(hash(prompt))
            prompt_ids = self._shortened(prompt, prompt_ids, left)
        return prompt_ids, answer_ids

    def as_texts(self, prompt: Prompt, answer: str) -> tuple[str, str]:
        """A prompt and an answer as texts that join with nothing between them, as a model without a chat template reads
        them.
        """
        return prompt_in_words(prompt) + self.config.separator.rstrip(" "), self._space() + answer.strip()

    def as_messages(self, prompt: Prompt) -> list[Message]:
        """A prompt as the messages of a conversation, the system prompt among them."""
        if self.chat is not None:
            return self.chat.messages_of(prompt)
        return [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text before the first end, without special tokens or surrounding whitespace."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), len(ids))
        text = self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip()

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a model folder."""
        self.tokenizer.save_pretrained(folder)

    def _shortened(self, prompt: Prompt, ids: list[int], limit: int) -> list[int]:
        if len(ids) <= limit:
            return ids or [self.eos_id]
        if self.chat is None:
            beginning = self._beginning[: limit - 1]
            return [*beginning, *ids[len(ids) - limit + len(beginning) :]]
        return self._shortened_chat(self.chat, self.chat.messages_of(prompt), ids, limit)

    def _shortened_chat(self, chat: ChatTemplate, messages: list[Message], ids: list[int], limit: int) -> list[int]:
        first = 1 if messages[0].role == "system" and len(messages) > 1 else 0
        while len(ids) > limit and (later := _next_question(messages, first)):
            messages = [*messages[:first], *messages[later:]]
            ids = chat.encode([messages])[0]
        while len(ids) > limit and messages[first].content:
            text = messages[first].content
            kept = 1 - (len(ids) - limit + 1) / max(1, len(self._verbatim.encode_plain([text])[0]))
            text = text[-int(len(text) * kept) :] if len(text) * kept >= 1 else ""
            messages[first] = Message(messages[first].role, text)
            ids = chat.encode([messages])[0]
        return ids[-limit:]  # of a system message that is longer than the limit, only the end

    def _continuations(self, answers: Sequence[str]) -> list[list[int]]:
        """Tokens of answers (stripped) as they follow what stands before an answer, without the end token."""
        if self.chat is None:
            space = self._space()
            if self._joins_plainly:
                return self._verbatim.encode_plain([space + answer for answer in answers])
            before, after = self._opening + space, ""
        else:
            before, after = self._opening + self.chat.lead, self.chat.trail
        expected = self._verbatim.controls_in(self._opening_ids)
        encoded = self._verbatim.encode([f"{before}{answer}{after}" for answer in answers])
        return [
            self._continuation(before, answer, after, ids, expected)
            for answer, ids in zip(answers, encoded, strict=True)
        ]

    def _continuation(self, before: str, answer: str, after: str, ids: list[int], expected: list[int]) -> list[int]:
        if self._verbatim.controls_in(ids) != expected:
            ids = self._verbatim.broken_up(lambda given: f"{before}{given[0]}{after}", [answer], expected)
        size = len(self._opening_ids)
        if ids[:size] == self._opening_ids:
            return ids[size:]
        # The opening's last token would merge with the answer, but the model has read it as it is.
        found = self._verbatim.encode_plain([f"\n{answer}{after}"])[0]
        size = len(self._line)
        return found[size:] if found[:size] == self._line else self._verbatim.encode_plain([answer + after])[0]

    def _space(self) -> str:
        """A word begins with a space after "TL;DR:", in separator or prompt, but not after a line break."""
        separator = self.config.separator
        return "" if separator[-1:].isspace() and not separator.endswith(" ") else " "


def _added_before(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer adds before a text, as Llama's does."""
    bare, whole = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    places = range(len(whole) - len(bare) + 1)
    return next((list(whole[:place]) for place in places if whole[place : place + len(bare)] == bare), [])


def _next_question(messages: Sequence[Message], first: int) -> int | None:
    """Where the next user's message after `first` stands; None if there is none."""
    return next((place for place in range(first + 1, len(messages)) if messages[place].role == "user"), None)


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """A batch padded on the right, as training and scoring expect.

    Returns:
        ids (B, T) long and mask (B, T) bool.
    """
    return _pad(sequences, pad_id, left=False)


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """A batch padded on the left, as decoding expects.

    Returns:
        ids (B, T) long and mask (B, T) bool.
    """
    return _pad(sequences, pad_id, left=True)


def _pad(sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    width = max((len(sequence) for sequence in sequences), default=0)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence, dtype=torch.long)
        mask[row, place] = True
    return ids, mask
