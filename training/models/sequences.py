"""Prompts with their answers as token ids, and small measures of batches and scores.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.data import Prompt
from training.models.text import TextCodec, pad_right


def sequences_of(
    codec: TextCodec, prompts: Sequence[Prompt], answers: Sequence[str], max_tokens: int
) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers as token ids, the answers with their end of text.

    If they exceed `max_tokens` together, the model's limit, the prompt's beginning is cut off, and the cut counted.
    """
    encoded = zip(codec.encode_prompts(prompts), codec.encode_answers(answers), strict=True)
    texts = zip(prompts, answers, strict=True)
    return [codec.fit(*text, ids, max_tokens) for text, ids in zip(texts, encoded, strict=True)]


def pad_answers(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of prompts with their answers as token ids, padded on the right.

    Returns:
        ids (B, T) long, mask (B, T) bool, and the place (B,) long of each prompt's last token.
    """
    ids, mask = pad_right([[*prompt, *answer] for prompt, answer in pairs], pad_id)
    return ids, mask, torch.tensor([len(prompt) - 1 for prompt, _ in pairs])


def last_real_token(mask: Tensor) -> Tensor:
    """The index (B,) long of each row's last real token, for padding on either side."""
    length = mask.shape[1]
    return length - 1 - mask.flip(1).long().argmax(dim=1)
