"""Attention for short sequences in bfloat16 on a CPU, as three plain products.

PyTorch's fused attention is made for long sequences. A prompt with its answer seldom has more than a hundred tokens;
at that length its backward pass takes four times as long as plain products with a softmax between them. All other
inputs go to the fused attention.

Legend: B batch, A heads, T tokens, D head size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "rankloop_short"
_LONGEST = 256


def use_short_attention(model: Any) -> None:
    """Make a Hugging Face model use this attention. Like the fused attention, it takes "no mask" to mean causal.

    Models with attention code of their own keep it. Where scores are capped, as in Gemma 2, they must be computed one
    by one: the fused attention would leave out the cap without a word.
    """
    if not model._can_set_attn_implementation():
        return
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
        return
    if model.config._attn_implementation == _NAME or not model._supports_sdpa:
        return
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **arguments: Any
) -> tuple[Tensor, None]:
    """An attention function as transformers expects it.

    Args:
        module: the attention layer.
        query: (B, A, T, D).
        key: (B, A, T, D); other shapes than the query's go to the fused attention.
        value: like `key`.
        attention_mask: None for causal attention; anything else goes to the fused attention.
        arguments: `scaling` and others that transformers passes on.

    Returns:
        (B, T, A, D), and no weights.
    """
    is_ours = (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and attention_mask is None
        and query.shape == key.shape == value.shape
        and query.shape[2] <= _LONGEST
    )
    if not is_ours:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
        return found
    scaling = arguments.get("scaling") or 1 / math.sqrt(query.shape[-1])
    return _attend_causally(query, key, value, scaling).transpose(1, 2), None


def _attend_causally(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Query, key and value (B, A, T, D) to (B, A, T, D); the softmax is in float32."""
    batch, heads, length, size = query.shape
    later = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)
    query, key, value = (part.reshape(batch * heads, length, size) for part in (query, key, value))
    scores = torch.baddbmm(later, query, key.transpose(1, 2), alpha=scaling)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(batch, heads, length, size)
