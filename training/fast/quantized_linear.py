"""Linear layers in 8-bit integers, for decoding: half the bytes and twice the speed of bfloat16 on CPUs with VNNI.

Weights have one scale per output, computed once; inputs have one per row and call. Integer sums are exact, so a row's
results don't depend on the rest of the batch.

The operators are PyTorch's own but barely documented, hence the check in `quantizing_works`.

Legend: B rows, I inputs, O outputs of a layer.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.fast.packed_linear import identity

_LARGEST = 127  # largest integer on either side of zero
_ZERO = 128
_SMALLEST = 1e-30  # lower bound of a scale, for rows or outputs that are all zeros
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


class QuantizedLinear:
    """y = x W^T + b, optionally followed by GPT-2's GELU; float32 in and out, with 8-bit integer products."""

    def __init__(self) -> None:
        self._weight = self._scale = self._zero_point = torch.empty(0)
        self._bias: Tensor | None = None
        self._source: tuple[Any, ...] = ()

    def load(
        self, weight: Tensor, bias: Tensor | None = None, *, transposed: bool = False, centred: bool = False
    ) -> None:
        """Load a layer's weights unless they are known to be unchanged; see `PackedLinear.load`.

        Args:
            weight: (O, I), or (I, O) if transposed.
            bias: (O,).
            transposed: whether the weight is stored as in GPT-2's checkpoints.
            centred: subtract the mean over the outputs, to which a softmax is invariant.
        """
        source = [identity(part) for part in (weight, bias) if part is not None]
        if self._source and self._source == tuple(source) and not weight.requires_grad:
            return
        self._source = tuple(source)
        inputs, outputs = (0, 1) if transposed else (1, 0)
        own = weight.detach().float()
        own = own - own.mean(dim=outputs, keepdim=True) if centred else own
        largest = own.abs().amax(dim=inputs, keepdim=True).clamp_(min=_SMALLEST)
        rounded = (own * (_LARGEST / largest)).round_().to(torch.int8)
        # The operators silently misread non-contiguous weights.
        rounded = rounded.t().contiguous() if transposed else rounded.contiguous()
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._scale = largest.flatten() / _LARGEST**2  # squared because inputs are scaled to _LARGEST too
        self._zero_point = torch.zeros(len(rounded), dtype=torch.int64)
        self._bias = None if bias is None else bias.detach().float().contiguous()

    def __call__(self, inputs: Tensor, *, gelu: bool = False) -> Tensor:
        """Inputs (..., I) float32 to outputs (..., O) float32; `gelu` applies GPT-2's tanh approximation."""
        largest = inputs.abs().amax(dim=-1, keepdim=True).clamp_(min=_SMALLEST)
        rounded = (inputs * (_LARGEST / largest)).round_().to(torch.int8)
        # oneDNN is a thousand times slower on signed inputs. Flipping the sign bit adds 128.
        unsigned = rounded.view(torch.uint8).bitwise_xor_(_ZERO)
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(unsigned, 1.0, _ZERO, self._weight, self._scale, self._zero_point),
            *(None, 1.0, 0, torch.float32, "none", [], ""),  # no operation fused onto the product
        )
        if self._bias is None:
            outputs.mul_(largest)
        else:
            torch.addcmul(self._bias, outputs, largest, out=outputs)
        return _gelu(outputs) if gelu else outputs


def _gelu(inputs: Tensor) -> Tensor:
    """GELU's tanh approximation, computed as x sigmoid(2 y) for tanh(y): PyTorch's sigmoid is many times faster."""
    return (inputs * inputs).mul_(_CUBIC).add_(_LINEAR).mul_(inputs).sigmoid_().mul_(inputs)


@cache
def quantizing_works() -> bool:
    """Whether 8-bit integer products are correct and fast with this PyTorch on this CPU."""
    # Includes the largest values: without VNNI, the sum of two such products overflows.
    weight = torch.linspace(-1, 1, 48 * 32).view(48, 32).sin()
    inputs = torch.cat([torch.ones(1, 32), weight[:3].cos()])
    weight[:2] = 1.0
    layer = QuantizedLinear()
    try:
        if not torch.cpu._is_vnni_supported():
            return False
        layer.load(weight, weight[:, 0])
        found = layer(inputs)
    except (AttributeError, RuntimeError, TypeError):
        return False  # another PyTorch version, whose operators are gone or take different arguments
    return torch.allclose(found, F.linear(inputs, weight, weight[:, 0]), atol=0.2, rtol=0.02)
