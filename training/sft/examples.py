"""Demonstrations prepared for supervised training: tokens, targets, batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data import Demonstration, Split, split_of
from training.models import TextCodec, pad_right

_BATCHES_SORTED_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence and where its targets begin.

    ids: token ids of prompt, answer and end of text.
    first_target: the index of the first token to learn; at least 1, since nothing predicts the first token.
    """

    ids: tuple[int, ...]
    first_target: int

    @property
    def targets(self) -> int:
        """Number of tokens to learn."""
        return len(self.ids) - self.first_target


def examples_by_split(
    codec: TextCodec, demonstrations: Sequence[Demonstration], max_tokens: int, *, learn_prompts: bool
) -> dict[Split, list[Example]]:
    """Encode demonstrations and group them by their prompt's split.

    Args:
        codec: tokenizer and template.
        demonstrations: prompts with the answers to imitate.
        max_tokens: the longest sequence the model reads; longer ones lose the beginning of the prompt.
        learn_prompts: whether to learn the prompts' tokens too.
    """
    prompts = codec.encode_prompts([item.prompt for item in demonstrations])
    answers = codec.encode_answers([item.answer for item in demonstrations])
    examples: dict[Split, list[Example]] = {split: [] for split in Split}
    for item, prompt, answer in zip(demonstrations, prompts, answers, strict=True):
        kept, answer = codec.fit(item.prompt, item.answer, (prompt, answer), max_tokens)
        first_target = 1 if learn_prompts else len(kept)
        examples[split_of(item.prompt)].append(Example((*kept, *answer), first_target))
    return examples


def batches_of_epoch(examples: Sequence[Example], batch_size: int, seed: int, epoch: int) -> list[list[Example]]:
    """All examples once, in an order that depends only on seed and epoch, sequences of similar length together.

    Sorting only within stretches of a few dozen batches keeps the order random and removes most padding.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(examples), generator=generator).tolist()
    stretch = batch_size * _BATCHES_SORTED_TOGETHER
    batches: list[list[Example]] = []
    for start in range(0, len(order), stretch):
        rows = sorted(order[start : start + stretch], key=lambda row: len(examples[row].ids))
        batches += [[examples[row] for row in rows[i : i + batch_size]] for i in range(0, len(rows), batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def tensors_of(batch: Sequence[Example], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (B, T) long padded on the right, and masks (B, T) bool of real tokens and of tokens to learn."""
    ids, mask = pad_right([example.ids for example in batch], pad_id)
    first = torch.tensor([example.first_target for example in batch])
    return ids, mask, mask & (torch.arange(ids.shape[1]) >= first[:, None])
