"""The frozen output head in float32, packed: as exact as training wants it, at nearly the price of bfloat16.

GPT-2's logits lie around -100, where bfloat16 has steps of a half: a ratio of two policies computed from such logits is
mostly noise. So where the rest computes in bfloat16, the head stays in float32. It isn't trained, hence can be packed
once, for the way forward and for the way back.

Legend: N tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.packed_linear import PackedLinear, packing_works


class FrozenHead:
    """Final hidden states (N, H) to logits (N, V) float32, with a gradient for the states only.

    Args:
        weight: (V, H), which must not change any more.
    """

    def __init__(self, weight: Tensor) -> None:
        packed = weight.device.type == "cpu" and packing_works(torch.float32)
        self._forwards = PackedLinear(torch.float32, packed=packed)
        self._backwards = PackedLinear(torch.float32, packed=packed)
        self._forwards.load(weight)
        self._backwards.load(weight, transposed=True)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits, whatever number format is the current one."""
        with torch.autocast(hidden.device.type, enabled=False):
            found: Tensor = _Product.apply(hidden.float(), self._forwards, self._backwards)  # type: ignore[no-untyped-call]
        return found


class _Product(torch.autograd.Function):
    """The packed product, which autograd doesn't know, with the packed transpose as its derivative."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, forwards: PackedLinear, backwards: PackedLinear) -> Tensor:
        ctx.backwards = backwards
        return forwards(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.backwards(gradient.contiguous()), None, None
