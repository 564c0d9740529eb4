"""GPT-2's activation in one kernel instead of eight.

Transformers computes `gelu_new` term by term and keeps every term for the backward pass. PyTorch has the same function
(Hendrycks & Gimpel 2016, the tanh approximation) as one kernel; only the rounding differs.
"""

from __future__ import annotations

from torch import nn

_TERM_BY_TERM = "NewGELUActivation"


def fuse_gelu(module: nn.Module) -> None:
    """Replace every term-by-term GELU within a module with the fused kernel."""
    for child in module.modules():
        for name, grandchild in child.named_children():
            if type(grandchild).__name__ == _TERM_BY_TERM:
                setattr(child, name, nn.GELU(approximate="tanh"))
