"""Linear layers whose weights are laid out once for the CPU's matrix kernels, for decoding.

With a few dozen rows the usual kernels spend most of their time on rearranging the weight; oneDNN can do that once,
which makes a step two to three times as fast. And its kernels sum up in the same order however many rows there are, so
that a row's numbers don't depend on the rows beside it.

The two operators are PyTorch's own but private, hence the trial of `packing_works` and the way back to `F.linear`.

Legend: B rows, I inputs, O outputs of a layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class PackedLinear:
    """y = x W^T + b, optionally with GPT-2's GELU on top, in a number format of its own.

    Args:
        dtype: float32 or bfloat16; inputs must come in it, and outputs do.
        packed: whether to lay the weight out for the CPU; see `packing_works`.
    """

    def __init__(self, dtype: torch.dtype, *, packed: bool) -> None:
        self._dtype, self._packed = dtype, packed
        self._weight = torch.empty(0)
        self._bias: Tensor | None = None
        self._source: tuple[Any, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        """An empty one: what is packed belongs to the weight it was loaded from, and can't be copied."""
        return PackedLinear(self._dtype, packed=self._packed)

    def load(
        self, weight: Tensor, bias: Tensor | None = None, *, transposed: bool = False, centred: bool = False
    ) -> None:
        """Take a layer's weights where they may have changed since the last time.

        Weights that are being trained are always taken anew, for fused optimizers change them without a trace. Frozen
        ones are when PyTorch has counted a change, which it does for every way but through `.data`.

        Args:
            weight: (O, I), or (I, O) if transposed.
            bias: (O,).
            transposed: whether the weight is stored as GPT-2's checkpoints have it.
            centred: take off the mean over the outputs, which a softmax doesn't notice. GPT-2's logits lie around -100,
                where bfloat16 has steps of a half; around their mean it has steps of a thirtieth.
        """
        source = [identity(part) for part in (weight, bias) if part is not None]
        if self._source and self._source == tuple(source) and not weight.requires_grad:
            return
        self._source = tuple(source)
        # Converted before it is turned: half the bytes to move.
        own = weight.detach()
        own = (own - own.mean(dim=0) if centred else own).to(self._dtype)
        own = own.t() if transposed else own
        # The operators silently misread what isn't contiguous.
        self._weight = _reorder(own.contiguous()) if self._packed else own
        self._bias = None if bias is None else bias.detach().to(self._dtype).contiguous()

    def __call__(self, inputs: Tensor, *, gelu: bool = False) -> Tensor:
        """Inputs (..., I) to outputs (..., O); `gelu` adds the tanh approximation that GPT-2 uses."""
        if self._packed and inputs.shape[:-1].numel() == 1:
            # A single row has a kernel of its own, which sums up in another order.
            both = inputs.reshape(1, -1).expand(2, -1).contiguous()
            return self(both, gelu=gelu)[:1].view(*inputs.shape[:-1], -1)
        if self._packed:
            activation, kind = ("gelu", "tanh") if gelu else ("none", "")
            found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, activation, [], kind)
            return found
        outputs = F.linear(inputs, self._weight, self._bias)
        return F.gelu(outputs, approximate="tanh") if gelu else outputs


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """Whether this PyTorch packs weights of a format on this CPU, and computes rightly with them."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight = torch.linspace(-1, 1, 48 * 32).view(48, 32).sin().to(dtype)
    inputs, bias = weight[:3].cos(), weight[:, 0]
    layer = PackedLinear(dtype, packed=True)
    try:
        layer.load(weight, bias)
        found = layer(inputs, gelu=True)
    except (AttributeError, RuntimeError, TypeError):
        return False  # another PyTorch, where the operators are gone, or take other arguments
    expected = F.gelu(F.linear(inputs, weight, bias), approximate="tanh")
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    return torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


def _reorder(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def identity(tensor: Tensor) -> tuple[Any, ...]:
    """What tells a tensor and its state from others; holds on to the tensor, so that its address isn't given away."""
    version = None if tensor.is_inference() else tensor._version
    return _Same(tensor), tensor.data_ptr(), version


class _Same:
    """Equal to another where both hold the very same tensor; plain comparison would compare numbers."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._tensor is other._tensor

    __hash__ = None  # type: ignore[assignment]
