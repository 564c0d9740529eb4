"""Copies of models that share their weights; freezing or packing a copy leaves the original unchanged."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from training.fast import thawed


def frozen_copies(*models: Any) -> tuple[Any, ...]:
    """Frozen copies with their own modules, whose parameters and buffers share the originals' memory.

    Models that refer to each other (a reward model to its base) still do so as copies.
    """
    memo: dict[int, Any] = {}
    for model in models:
        memo |= {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()}
        memo |= {id(value): value for value in model.buffers()}
    return copy.deepcopy(models, memo)


Module = TypeVar("Module", bound=nn.Module)


def share_equal_weights(model: nn.Module, base: nn.Module) -> int:
    """Let `model` use `base`'s memory for every parameter that is bit for bit the same in both.

    Returns:
        How many bytes are now held once instead of twice.
    """
    theirs = dict(base.named_parameters())
    shared = 0
    for name, value in model.named_parameters():
        other = theirs.get(name)
        if other is None or other.data_ptr() == value.data_ptr() or other.device != value.device:
            continue
        if other.dtype == value.dtype and other.shape == value.shape and bool((other == value).all()):
            value.data = other.data
            shared += value.numel() * value.element_size()
    return shared


def own_parameters(module: Module) -> Module:
    """Give a copy's module its own, trainable weights, in float32."""
    for value in thawed(module).parameters():
        value.data = value.data.to(torch.float32, copy=True)
        value.requires_grad_()
    return module


def without_dropout(module: nn.Module) -> None:
    """Disable dropout permanently: with it, two passes disagree, and PPO's ratios would measure noise."""
    module.eval()
    child: Any
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        elif isinstance(getattr(child, "attention_dropout", None), float):
            child.attention_dropout = 0.0
