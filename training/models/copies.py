"""Copies of models that share their weights: what is frozen or packed in a copy leaves the original as it was."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn


def frozen_copies(*models: Any) -> tuple[Any, ...]:
    """Copies whose modules are their own, while parameters and buffers lie in the originals' memory, frozen.

    Models that refer to each other (a reward model to its base) do so among the copies as well.
    """
    memo: dict[int, Any] = {}
    for model in models:
        memo |= {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()}
        memo |= {id(value): value for value in model.buffers()}
    return copy.deepcopy(models, memo)


Module = TypeVar("Module", bound=nn.Module)


def own_parameters(module: Module) -> Module:
    """Give a module of a copy weights of its own, to be trained."""
    for value in module.parameters():
        value.data = value.data.clone()
        value.requires_grad_()
    return module
