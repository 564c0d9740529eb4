"""One template for policy, reference and reward model: prompt, separator, answer, end of text; tokens, padding, masks.

Masks are True at real tokens. Models without a pad token pad with the end-of-text token; only masks distinguish them.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoTokenizer

from training.config import TextConfig
from training.data import Prompt, prompt_in_words
from training.errors import ModelError, first_line

_TEXTS_AT_ONCE = 1024  # a tokenizer's other output takes many times the memory of the ids


class TextCodec:
    """Encodes prompts and answers as tokens, and decodes answers.

    Text never becomes a special token: an end-of-text marker typed into a prompt is encoded as its characters.

    Args:
        tokenizer: a transformers tokenizer with an end-of-text token.
        config: separator and limits.

    Attributes:
        eos_id: the token that ends an answer.
        pad_id: the token that pads a batch; `eos_id` if the tokenizer has no pad token.
        truncated_prompts: how many different prompts have been truncated so far.
        truncated_answers: how many different answers have been truncated so far.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """

    def __init__(self, tokenizer: Any, config: TextConfig | None = None) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end-of-text token", remedy="Set eos_token in its tokenizer_config.json."
            )
        self.tokenizer = tokenizer
        self.config = config or TextConfig()
        self.eos_id = int(tokenizer.eos_token_id)
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self._cut_prompts: set[int] = set()  # hashes, since a server runs for long
        self._cut_answers: set[int] = set()

    @classmethod
    def load(cls, model: str, config: TextConfig | None = None) -> Self:
        """Load the codec of a model folder or of a model on the Hugging Face hub.

        Raises:
            ModelError: the tokenizer can't be loaded, or has no end-of-text token.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ModelError(
                "the tokenizer can't be loaded",
                got=model,
                expected="a folder with tokenizer.json, or a name on the Hugging Face hub",
                remedy=f"Check the path, the name and the network. ({first_line(error)})",
            ) from error
        return cls(tokenizer, config)

    @property
    def truncated_prompts(self) -> int:
        """How many different prompts have been truncated so far."""
        return len(self._cut_prompts)

    @property
    def truncated_answers(self) -> int:
        """How many different answers have been truncated so far."""
        return len(self._cut_answers)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Encode prompts with the separator, at least one token each; long ones lose their start and are counted."""
        limit = self.config.max_prompt_tokens
        separator = self.config.separator.rstrip(" ")  # a space belongs to the next word's token, so to the answer
        encoded = self._encode([prompt_in_words(prompt) + separator for prompt in prompts])
        self._cut_prompts.update(hash(prompt) for prompt, ids in zip(prompts, encoded, strict=True) if len(ids) > limit)
        return [ids[-limit:] or [self.eos_id] for ids in encoded]

    def encode_answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Encode answers with the end of text; long ones are truncated before it and counted."""
        # A word begins with a space after "TL;DR:", in separator or prompt, but not after a line break.
        separator = self.config.separator
        space = "" if separator[-1:].isspace() and not separator.endswith(" ") else " "
        limit = self.config.max_answer_tokens - 1
        encoded = self._encode([space + answer.strip() for answer in answers])
        self._cut_answers.update(hash(answer) for answer, ids in zip(answers, encoded, strict=True) if len(ids) > limit)
        return [[*ids[:limit], self.eos_id] for ids in encoded]

    def fit(
        self, prompt: Prompt, answer: str, ids: tuple[list[int], list[int]], room: int
    ) -> tuple[list[int], list[int]]:
        """Truncate a sequence to what a model can read, the prompt's beginning first, and count it.

        Args:
            prompt: the text, for the count.
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
            prompt_ids = prompt_ids[-left:]
        return prompt_ids, answer_ids

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text before the end of text, without special tokens or surrounding whitespace."""
        ids = list(ids)
        end = ids.index(self.eos_id) if self.eos_id in ids else len(ids)
        text = self.tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip()

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a model folder."""
        self.tokenizer.save_pretrained(folder)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            encoded = self.tokenizer(part, add_special_tokens=False, split_special_tokens=True, verbose=False)
            found.extend(encoded["input_ids"])
        return found


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


def position_ids(mask: Tensor) -> Tensor:
    """Positions (B, T) long over real tokens of `mask` (B, T) bool, padded on either side; 0 at padding."""
    return ((mask.long().cumsum(dim=1) - 1) * mask).clamp(min=0)


def _pad(sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    width = max((len(sequence) for sequence in sequences), default=0)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence, dtype=torch.long)
        mask[row, place] = True
    return ids, mask
