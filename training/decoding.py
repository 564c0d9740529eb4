"""Decoding step by step with a key-value cache: each prompt is read once, and its cache serves all its answers.

Legend: N prompts, P tokens of the longest, B answers (rows), S columns of the cache, C hidden size, D head size,
V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.gpt2_weights import GPT2Block, GPT2Weights
from training.precision import Precision, compute_dtype
from training.text import position_ids

_COLUMNS = 16  # float32 numbers to an AVX-512 register, so that no sum has a remainder that depends on the batch
_PROMPT_COLUMNS = 32  # queries to a block of PyTorch's fused attention, for the same reason


class Decoder(Protocol):
    """One batch of answers being decoded.

    Attributes:
        logits: (B, V) float32, for the next token of each row.
    """

    logits: Tensor

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""

    def keep(self, rows: Tensor) -> None:
        """Go on with only `rows` (M,) long."""


def weights_for(model: Any, precision: Precision) -> GPT2Weights | None:
    """What decodes a model by hand; None where only its own forward will do.

    Args:
        model: a transformers PreTrainedModel.
        precision: what to compute in; `auto` is bfloat16 where the hardware has it and the model is wide enough.
    """
    if not _is_plain_gpt2(model):
        return None
    return GPT2Weights(model, compute_dtype(model.device, precision, int(model.config.n_embd)))


def decoder_for(
    model: Any, weights: GPT2Weights | None, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int
) -> Decoder:
    """Read prompts and prepare `copies` answers to each, prompt-major.

    Args:
        model: a transformers PreTrainedModel.
        weights: its own from `weights_for`, as fresh as the answers shall be.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers to a prompt.
        new_tokens: how many tokens an answer has at most.
    """
    if weights is None:
        return CacheDecoder(model, ids, mask, copies=copies, new_tokens=new_tokens)
    return GPT2Decoder(weights, ids, mask, copies=copies, new_tokens=new_tokens)


class GPT2Decoder:
    """GPT-2 by hand, with a cache that is allocated once.

    A step is a dozen small operations a layer; Hugging Face's forward does several times as many, which at one token a
    step costs more than the arithmetic. On a CPU the cache is in float32 whatever the products are computed in: for a
    single query the plain products on float32 take a third of the time of bfloat16's or of fused attention.

    A row's tokens start at the cache's first column, and what is read of the cache is always a multiple of
    `_COLUMNS`. So a longer row beside it only adds zeros behind its own terms, and every sum comes out the same.
    """

    def __init__(self, weights: GPT2Weights, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> None:
        self._weights = weights
        self._cache_dtype = torch.float32 if ids.device.type == "cpu" else weights.dtype
        lengths = mask.sum(dim=1)
        width = _rounded_up(ids.shape[1], _PROMPT_COLUMNS)
        self._longest = ids.shape[1]
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        columns = max(width, _rounded_up(self._longest + new_tokens, _COLUMNS))
        hidden = self._prefill(_left_aligned(ids, mask, width), lengths, columns, copies)
        self._positions = lengths.repeat_interleave(copies)
        places = torch.arange(columns, device=ids.device)
        hidden_ones = places[None, :] > places[:, None]  # a token at a position sees itself and what is before it
        self._bias = torch.zeros(columns, columns, device=ids.device, dtype=self._cache_dtype)
        self._bias.masked_fill_(hidden_ones, -torch.inf)
        self.logits = self._logits(hidden).repeat_interleave(copies, dim=0)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        weights = self._weights
        hidden = weights.token_embedding[tokens] + weights.position_embedding[self._positions]
        self._longest += 1
        stop = min(_rounded_up(self._longest, _COLUMNS), self._keys[0].shape[2])
        bias = self._bias[self._positions, None, None, :stop]
        rows = torch.arange(len(tokens) * weights.heads, device=tokens.device).view(-1, weights.heads)
        places = (rows * self._keys[0].shape[2] + self._positions[:, None]).flatten()
        for block, keys, values in zip(weights.blocks, self._keys, self._values, strict=True):
            query, key, value = self._project(block, hidden[:, None])
            for cache, part in ((keys, key), (values, value)):
                lines = part.reshape(-1, part.shape[-1]).to(cache.dtype)
                cache.view(-1, part.shape[-1]).index_copy_(0, places, lines)
            scores = (query.to(self._cache_dtype) * block.scaling) @ keys[:, :, :stop].transpose(2, 3)
            scores += bias
            attended = scores.softmax(dim=-1) @ values[:, :, :stop]
            hidden = _after_attention(block, hidden, attended.flatten(1).to(weights.dtype))
        self._positions = self._positions + 1
        self.logits = self._logits(hidden)

    def keep(self, rows: Tensor) -> None:
        """Go on with only `rows` (M,) long."""
        self._keys = [part.index_select(0, rows) for part in self._keys]
        self._values = [part.index_select(0, rows) for part in self._values]
        self._positions, self.logits = self._positions[rows], self.logits[rows]

    def _prefill(self, ids: Tensor, lengths: Tensor, columns: int, copies: int) -> Tensor:
        """Read prompts (N, P) of lengths (N,) into the cache; returns each one's last state (N, C) above the blocks."""
        weights = self._weights
        limit = len(weights.position_embedding) - 1
        positions = torch.arange(ids.shape[1], device=ids.device).clamp(max=limit)
        hidden = weights.token_embedding[ids] + weights.position_embedding[positions]
        for block in weights.blocks:
            query, key, value = self._project(block, hidden)
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=block.scaling)
            for cache, part in ((self._keys, key), (self._values, value)):
                shape = (len(ids) * copies, weights.heads, columns, part.shape[-1])
                room = part.new_empty(shape, dtype=self._cache_dtype)
                room[:, :, : ids.shape[1]] = part.repeat_interleave(copies, dim=0)
                # What is never written is still multiplied: by zero, which a NaN would survive.
                room[:, :, ids.shape[1] :] = 0
                cache.append(room)
            hidden = _after_attention(block, hidden, attended.transpose(1, 2).flatten(2))
        return hidden[torch.arange(len(ids), device=ids.device), lengths - 1]

    def _project(self, block: GPT2Block, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, heads, T, D) of hidden states (B, T, C)."""
        projected = block.query_key_value(block.attention_norm(hidden).to(self._weights.dtype))
        batch, length, _ = projected.shape
        query, key, value = projected.view(batch, length, 3, self._weights.heads, -1).permute(2, 0, 3, 1, 4)
        return query, key, value

    def _logits(self, hidden: Tensor) -> Tensor:
        """States above the blocks (..., C) to logits (..., V) float32."""
        return self._weights.head(self._weights.final_norm(hidden).to(self._weights.dtype)).float()


class CacheDecoder:
    """Any other architecture, through its own forward and transformers' key-value cache."""

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> None:  # noqa: ARG002
        self._model = model
        found = model(
            input_ids=ids, attention_mask=mask.long(), position_ids=position_ids(mask), use_cache=True, logits_to_keep=1
        )
        self._cache = found.past_key_values
        if copies > 1:
            self._cache.batch_repeat_interleave(copies)
        self._mask = mask.repeat_interleave(copies, dim=0)
        self.logits: Tensor = found.logits[:, -1].float().repeat_interleave(copies, dim=0)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        self._mask = F.pad(self._mask, (0, 1), value=True)
        found = self._model(
            input_ids=tokens[:, None],
            attention_mask=self._mask.long(),
            position_ids=self._mask.sum(dim=1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = found.past_key_values
        self.logits = found.logits[:, -1].float()

    def keep(self, rows: Tensor) -> None:
        """Go on with only `rows` (M,) long."""
        self._cache.batch_select_indices(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]


def _after_attention(block: GPT2Block, hidden: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block: project what was attended to, then the feed-forward part."""
    hidden = hidden + block.attention_output(attended)
    normalised = block.feed_forward_norm(hidden).to(attended.dtype)
    if block.activation is None:
        inner = block.feed_forward_in(normalised, gelu=True)
    else:
        inner = block.activation(block.feed_forward_in(normalised))
    return hidden + block.feed_forward_out(inner)


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _left_aligned(ids: Tensor, mask: Tensor, width: int) -> Tensor:
    """Ids (N, P) padded on the left to ids (N, width) padded on the right."""
    padding = (~mask).sum(dim=1, keepdim=True)
    places = torch.arange(width, device=ids.device) + padding
    return ids.gather(1, places.clamp(max=ids.shape[1] - 1))


def _is_plain_gpt2(model: Any) -> bool:
    config = model.config
    return (
        type(model).__name__ == "GPT2LMHeadModel"
        and not config.add_cross_attention
        and not config.reorder_and_upcast_attn
        and not model.training
    )
