"""Frozen layers whose weights are packed for the CPU once, where products are in bfloat16.

Autocast converts a weight to bfloat16 in every pass and passes it on in a layout that the kernel must transpose; a
frozen weight needs neither. Parameters keep their names and values, so saving, hashing and sharing see no difference.
Where bfloat16 isn't the current format, or a gradient must flow through, the layer computes as before.

Legend: I inputs, O outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from training.fast.packed_linear import PackedLinear, packing_works
from training.fast.precision import current_dtype


class FrozenLinear(nn.Module):
    """A linear layer that is no longer trained.

    Args:
        layer: the layer whose parameters it takes over: a linear layer, or GPT-2's, which stores its weight as (I, O).

    Attributes:
        gelu: whether to apply the tanh approximation of GELU to the output.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.gelu = False
        self._transposed = isinstance(layer, Conv1D)
        self._packed = PackedLinear(torch.bfloat16, packed=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (..., I) to outputs (..., O)."""
        # A copy of a frozen block may be trained again.
        is_learned = self.weight.requires_grad or (torch.is_grad_enabled() and inputs.requires_grad)
        if current_dtype(inputs.device) == torch.bfloat16 and not is_learned:
            self._packed.load(self.weight, self.bias, transposed=self._transposed)
            return self._packed(inputs.to(torch.bfloat16), gelu=self.gelu)
        outputs = F.linear(inputs, self.weight.t() if self._transposed else self.weight, self.bias)
        return F.gelu(outputs, approximate="tanh") if self.gelu else outputs


def pack_frozen(blocks: Iterable[nn.Module]) -> None:
    """Replace every frozen linear layer of some blocks with a `FrozenLinear`, where that is faster on this CPU."""
    for block in blocks:
        device = next(block.parameters()).device
        if device.type != "cpu" or not packing_works(torch.bfloat16):
            return
        for module in block.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.Linear | Conv1D) and not any(p.requires_grad for p in child.parameters()):
                    setattr(module, name, FrozenLinear(child))
            _take_in_gelu(module)


def _take_in_gelu(module: nn.Module) -> None:
    """Fuse a GPT-2 block's activation into its first feed-forward layer."""
    first, activation = getattr(module, "c_fc", None), getattr(module, "act", None)
    if isinstance(first, FrozenLinear) and isinstance(activation, nn.GELU) and activation.approximate == "tanh":
        first.gelu = True
        module.act = nn.Identity()
