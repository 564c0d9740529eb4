"""Linear layers whose weights are packed once for the CPU's matrix kernels, for decoding.

With a few dozen rows the usual kernels spend most of their time rearranging the weight; oneDNN can do that once, which
makes a step two to three times as fast. Its kernels also sum in the same order however many rows there are, so a row's
results don't depend on the rest of the batch.

The two operators are PyTorch's own but private, hence the check in `packing_works` and the fallback to `F.linear`.

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
        packed: whether to pack the weight for the CPU; see `packing_works`.
    """

    def __init__(self, dtype: torch.dtype, *, packed: bool) -> None:
        self._dtype, self._packed = dtype, packed
        self._weight = torch.empty(0)
        self._bias: Tensor | None = None
        self._source: tuple[Any, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        """An empty layer: packed weights belong to the weight they were loaded from, and can't be copied."""
        return PackedLinear(self._dtype, packed=self._packed)

    def load(
        self, weight: Tensor, bias: Tensor | None = None, *, transposed: bool = False, centred: bool = False
    ) -> None:
        """Load a layer's weights unless they are known to be unchanged since the last call.

        Weights in training are always reloaded, because fused optimizers bypass PyTorch's version counter. Frozen ones
        are reloaded when the counter has moved, as it does for every change except through `.data`.

        Args:
            weight: (O, I), or (I, O) if transposed.
            bias: (O,).
            transposed: whether the weight is stored as in GPT-2's checkpoints.
            centred: subtract the mean over the outputs, to which a softmax is invariant. GPT-2's logits are around
                -100, where bfloat16 has steps of a half; around their mean it has steps of a thirtieth.
        """
        source = [identity(part) for part in (weight, bias) if part is not None]
        if self._source and self._source == tuple(source) and not weight.requires_grad:
            return
        self._source = tuple(source)
        # Convert before transposing: half the bytes to move.
        own = weight.detach()
        own = (own - own.mean(dim=0) if centred else own).to(self._dtype)
        own = own.t() if transposed else own
        # The operators silently misread non-contiguous weights.
        self._weight = _reorder(own.contiguous()) if self._packed else own
        self._bias = None if bias is None else bias.detach().to(self._dtype).contiguous()

    def __call__(self, inputs: Tensor, *, gelu: bool = False) -> Tensor:
        """Inputs (..., I) to outputs (..., O); `gelu` applies the tanh approximation that GPT-2 uses."""
        if self._packed and inputs.shape[:-1].numel() == 1:
            # A single row would go to a different kernel, which sums in a different order.
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
    """Whether this PyTorch can pack weights of this format on this CPU and computes correctly with them."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight = torch.linspace(-1, 1, 48 * 32).view(48, 32).sin().to(dtype)
    inputs, bias = weight[:3].cos(), weight[:, 0]
    layer = PackedLinear(dtype, packed=True)
    try:
        layer.load(weight, bias)
        found = layer(inputs, gelu=True)
    except (AttributeError, RuntimeError, TypeError):
        return False  # another PyTorch version, whose operators are gone or take different arguments
    expected = F.gelu(F.linear(inputs, weight, bias), approximate="tanh")
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    return torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


def _reorder(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def identity(tensor: Tensor) -> tuple[Any, ...]:
    """Identifies a tensor and its state; keeps the tensor alive so that its address isn't reused."""
    version = None if tensor.is_inference() else tensor._version
    return _Same(tensor), tensor.data_ptr(), version


class _Same:
    """Compares tensors by identity instead of elementwise."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._tensor is other._tensor

    __hash__ = None  # type: ignore[assignment]
