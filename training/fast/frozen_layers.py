"""Frozen layers whose weights are packed for the CPU once, where products are in bfloat16.

Autocast converts a weight to bfloat16 in every pass and passes it on in a layout that the kernel must transpose; a
frozen weight needs neither. Parameters keep their names and values, so saving, hashing and sharing see no difference.
Where bfloat16 isn't the current format, or a gradient must flow through, the layer computes as before.

Legend: I inputs, O outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from training.fast.packed_linear import PackedLinear, packing_works
from training.fast.precision import current_dtype

Module = TypeVar("Module", bound=nn.Module)


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
        current = current_dtype(inputs.device)
        if inputs.device.type == "cpu" and current == torch.bfloat16 and not is_learned:
            self._packed.load(self.weight, self.bias, transposed=self._transposed)
            return self._packed(inputs.to(torch.bfloat16), gelu=self.gelu)
        # Within autocast the format of the weight makes no difference; outside it must be that of the inputs.
        weight = self.weight.to(inputs.dtype) if current == torch.float32 else self.weight
        outputs = F.linear(inputs, weight.t() if self._transposed else weight, self.bias)
        return F.gelu(outputs, approximate="tanh") if self.gelu else outputs

    def thaw(self) -> nn.Linear | Conv1D:
        """The layer as it was, with its weight in float32."""
        inputs, outputs = self.weight.shape if self._transposed else self.weight.shape[::-1]
        with torch.device("meta"):
            layer = Conv1D(outputs, inputs) if self._transposed else nn.Linear(inputs, outputs, self.bias is not None)
        layer.weight, layer.bias = nn.Parameter(self.weight.float(), self.weight.requires_grad), self.bias
        return layer


def thawed(module: Module) -> Module:
    """A module whose frozen layers are ordinary ones again, in place, so that they can be trained or adapted."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FrozenLinear) and not child.gelu:
                setattr(parent, name, child.thaw())
    return module


def hold_narrow(model: Any) -> None:
    """Hold the weights of a frozen model's linear layers in bfloat16 where that loses nothing, which halves them.

    Most models are published in bfloat16. Only how weights are held changes: products are computed in the format that
    is asked for, with the same results. Embeddings, norms and the output head stay as they are.
    """
    head = model.get_output_embeddings()
    for module in model.modules():
        for name, child in module.named_children():
            if not isinstance(child, nn.Linear | Conv1D) or child is head:
                continue
            narrow = child.weight.detach().to(torch.bfloat16)
            if torch.equal(narrow.to(child.weight.dtype), child.weight):
                child.weight = nn.Parameter(narrow, requires_grad=False)
                setattr(module, name, FrozenLinear(child))


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
