"""Decoding step by step with a key-value cache: each prompt is read once, and its cache serves all its answers.

Legend: N prompts, P tokens of the longest prompt, B answers (rows), V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.errors import ModelError
from training.fast import GPT2Decoder, GPT2Weights, SamplingPrecision, compute_dtype, quantizing_works
from training.models import position_ids


class Decoder(Protocol):
    """One batch of answers being decoded.

    Attributes:
        logits: (B, V) float32, for the next token of each row.
    """

    logits: Tensor

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""


def weights_for(model: Any, precision: SamplingPrecision) -> GPT2Weights | None:
    """The weights for our own decoder, or None where only the model's own `forward` will do.

    Args:
        model: a transformers PreTrainedModel.
        precision: `auto` is bfloat16 if supported and the model is wide enough; `int8` means `auto` if unsupported.
    """
    if not _is_plain_gpt2(model):
        return None
    if precision == "int8":
        if model.device.type == "cpu" and quantizing_works():
            return GPT2Weights(model, torch.int8)
        precision = "auto"
    return GPT2Weights(model, compute_dtype(model.device, precision, int(model.config.n_embd)))


def decoder_for(
    model: Any, weights: GPT2Weights | None, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int
) -> Decoder:
    """Read prompts and prepare `copies` answers to each, prompt-major.

    Args:
        model: a transformers PreTrainedModel.
        weights: from `weights_for(model)`, refreshed since the model last changed.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers per prompt.
        new_tokens: maximum number of tokens in an answer.
    """
    if weights is None:
        return CacheDecoder(model, ids, mask, copies=copies, new_tokens=new_tokens)
    return GPT2Decoder(weights, ids, mask, copies=copies, new_tokens=new_tokens)


class CacheDecoder:
    """Decodes any other architecture with its own `forward` and transformers' key-value cache.

    Raises:
        ModelError: it has no such cache, so padding would be read as text.
    """

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> None:  # noqa: ARG002
        self._model = model
        self._takes = inspect.signature(model.forward).parameters
        if "past_key_values" not in self._takes:
            raise ModelError(
                "this model architecture can't be sampled from: it has no key-value cache",
                got=str(model.config.model_type),
                expected="a decoder-only transformer",
                remedy="Choose another model.",
            )
        self.logits = self._step(ids, mask, position_ids(mask), None).repeat_interleave(copies, dim=0)
        if copies > 1:
            self._cache.batch_repeat_interleave(copies)
        self._mask = mask.repeat_interleave(copies, dim=0)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        self._mask = F.pad(self._mask, (0, 1), value=True)
        self.logits = self._step(tokens[:, None], self._mask, self._mask.sum(dim=1, keepdim=True) - 1, self._cache)

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""
        self._cache.batch_select_indices(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Read ids (B, T) after the cached tokens and cache them; returns the last token's logits (B, V)."""
        # ALiBi models take no positions, and not every model can skip logits.
        optional = {"position_ids": positions, "logits_to_keep": 1}
        found = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._takes},
        )
        self._cache: Any = found.past_key_values
        return found.logits[:, -1].float()  # type: ignore[no-any-return]


def _is_plain_gpt2(model: Any) -> bool:
    config = model.config
    return (
        type(model).__name__ == "GPT2LMHeadModel"
        and not config.add_cross_attention
        and not config.reorder_and_upcast_attn
        and not model.training
    )
