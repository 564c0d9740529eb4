"""A GPT-2 block computed at only a few tokens of a sequence, for a score that is read at the sequence's end.

Legend: B batch, T tokens, K places, H hidden size, A heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def gpt2_block_at(block: Any, hidden: Tensor, places: Tensor) -> Tensor:
    """The block's output (B, K, H) at `places` (B, K) long, from all its inputs (B, T, H); attention is causal.

    Equals the whole block's output at these places, up to rounding.
    """
    attention = block.attn
    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
    normalised = block.ln_1(hidden)
    size = hidden.shape[-1]
    weight, bias = attention.c_attn.weight, attention.c_attn.bias  # (H, 3H): query, key, value side by side
    query = F.linear(normalised[rows, places], weight[:, :size].t(), bias[:size])
    keys, values = F.linear(normalised, weight[:, size:].t(), bias[size:]).chunk(2, dim=-1)
    query, keys, values = (_by_head(part, attention.num_heads) for part in (query, keys, values))
    later = torch.arange(hidden.shape[1], device=hidden.device) > places[:, None, :, None]
    scores = (query @ keys.transpose(2, 3)).float() * attention.scaling
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1).to(values.dtype)
    attended = (weights @ values).transpose(1, 2).flatten(2)
    after = hidden[rows, places] + attention.c_proj(attended)
    return after + block.mlp(block.ln_2(after))  # type: ignore[no-any-return]


def _by_head(states: Tensor, heads: int) -> Tensor:
    """(B, T, H) to (B, A, T, D)."""
    return states.view(*states.shape[:2], heads, -1).transpose(1, 2)
