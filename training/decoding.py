"""Decoding step by step with a key-value cache: each prompt is read once, and its cache serves all its answers.

Legend: N prompts, P tokens of the longest, B answers (rows), S columns of the cache, C hidden size, D head size,
V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.text import position_ids


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


def decoder_for(model: Any, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> Decoder:
    """Read prompts and prepare `copies` answers to each, prompt-major.

    Args:
        model: a transformers PreTrainedModel; its weights are used as they are now.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers to a prompt.
        new_tokens: how many tokens an answer has at most.
    """
    kind = GPT2Decoder if _is_plain_gpt2(model) else CacheDecoder
    return kind(model, ids, mask, copies=copies, new_tokens=new_tokens)


class GPT2Decoder:
    """GPT-2 on its modules' own weights, with a cache that is allocated once.

    A step is a dozen small operations a layer; Hugging Face's forward does several times as many, which at one token a
    step costs more than the arithmetic.
    """

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> None:
        transformer = model.transformer
        self._wte, self._wpe = transformer.wte.weight, transformer.wpe.weight
        self._blocks, self._norm, self._head = list(transformer.h), transformer.ln_f, model.lm_head.weight
        self._heads = model.config.n_head
        self._filled = ids.shape[1]
        columns = self._filled + new_tokens - 1
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        hidden = self._prefill(ids, mask, columns, copies)
        self._positions = mask.sum(dim=1).repeat_interleave(copies)
        padding = torch.zeros(mask.shape, device=ids.device).masked_fill(~mask, -torch.inf)
        self._bias = (
            None if bool(mask.all()) else F.pad(padding, (0, columns - self._filled)).repeat_interleave(copies, 0)
        )
        self.logits = F.linear(hidden, self._head).float().repeat_interleave(copies, dim=0)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        hidden = self._wte[tokens] + self._wpe[self._positions]
        stop = self._filled + 1
        bias = None if self._bias is None else self._bias[:, None, None, :stop]
        for block, keys, values in zip(self._blocks, self._keys, self._values, strict=True):
            query, key, value = self._project(block, hidden[:, None])
            keys[:, :, self._filled : stop] = key
            values[:, :, self._filled : stop] = value
            scores = (query * block.attn.scaling) @ keys[:, :, :stop].transpose(2, 3)
            if bias is not None:
                scores = scores + bias
            attended = scores.softmax(dim=-1) @ values[:, :, :stop]
            hidden = _after_attention(block, hidden, attended.flatten(1))
        self._positions = self._positions + 1
        self._filled = stop
        self.logits = F.linear(self._norm(hidden), self._head).float()

    def keep(self, rows: Tensor) -> None:
        """Go on with only `rows` (M,) long."""
        self._keys = [part.index_select(0, rows) for part in self._keys]
        self._values = [part.index_select(0, rows) for part in self._values]
        self._positions, self.logits = self._positions[rows], self.logits[rows]
        self._bias = None if self._bias is None else self._bias[rows]

    def _prefill(self, ids: Tensor, mask: Tensor, columns: int, copies: int) -> Tensor:
        """Read the prompts into the cache; returns the last token's final hidden state (N, C)."""
        hidden = self._wte[ids] + self._wpe[position_ids(mask)]
        visible = _visible(mask)
        for block in self._blocks:
            query, key, value = self._project(block, hidden)
            attended = F.scaled_dot_product_attention(
                query, key, value, attn_mask=visible, is_causal=visible is None, scale=block.attn.scaling
            )
            hidden = _after_attention(block, hidden, attended.transpose(1, 2).flatten(2))
            for cache, part in ((self._keys, key), (self._values, value)):
                room = part.new_empty(len(ids) * copies, self._heads, columns, part.shape[-1])
                room[:, :, : self._filled] = part.repeat_interleave(copies, dim=0)
                cache.append(room)
        last: Tensor = self._norm(hidden[:, -1])
        return last

    def _project(self, block: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, heads, T, D) of hidden states (B, T, C)."""
        projected = block.attn.c_attn(block.ln_1(hidden))
        batch, length, _ = projected.shape
        query, key, value = projected.view(batch, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        return query, key, value


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


def _after_attention(block: Any, hidden: Tensor, attended: Tensor) -> Tensor:
    """The rest of a GPT-2 block: project what was attended to, then the feed-forward part."""
    hidden = hidden + block.attn.c_proj(attended)
    result: Tensor = hidden + block.mlp(block.ln_2(hidden))
    return result


def _visible(mask: Tensor) -> Tensor | None:
    """(N, 1, P, P) bool, True where a query may look; None where nothing is padded and causality is enough.

    A padded query looks at itself, since a softmax over nothing is NaN.
    """
    if bool(mask.all()):
        return None
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((causal & mask[:, None, :]) | itself)[:, None]


def _is_plain_gpt2(model: Any) -> bool:
    config = model.config
    return (
        type(model).__name__ == "GPT2LMHeadModel"
        and not config.add_cross_attention
        and not config.reorder_and_upcast_attn
        and not model.training
    )
