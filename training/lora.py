"""Low-rank adapters: a small trained matrix beside each frozen one, merged into it wherever a plain model is needed.

Reference: Hu et al. 2021 (2106.09685).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from training.config import LoRAConfig
from training.errors import ConfigError

Module = TypeVar("Module", bound=nn.Module)
_ADAPTER = "default"


def add_adapters(module: Module, config: LoRAConfig) -> Module:
    """Freeze a module and put adapters beside its linear layers, in place; they change nothing until they are trained.

    Raises:
        ConfigError: a target isn't the name of a linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import

    linear = {name: child for name, child in module.named_modules() if isinstance(child, nn.Linear | Conv1D)}
    known = {name.rpartition(".")[2] for name in linear}
    wanted = known if config.targets is None else set(config.targets)
    if not wanted or wanted - known:
        raise ConfigError(
            "there is no such layer for LoRA to adapt",
            got=sorted(wanted - known) or "no layer",
            expected=f"lora.targets out of {', '.join(sorted(known))}",
        )
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=[name for name in linear if name.rpartition(".")[2] in wanted],
        fan_in_fan_out=any(isinstance(child, Conv1D) for child in linear.values()),
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same start in every run
        inject_adapter_in_model(settings, module, _ADAPTER)
    return module


@torch.no_grad()
def merge_into(plain: nn.Module, adapted: nn.Module) -> None:
    """Set a plain module's weights to those of the same module with adapters, merged."""
    for name, layer in _adapters(adapted):
        merged = layer.get_base_layer().weight.float() + layer.get_delta_weight(_ADAPTER)
        plain.get_submodule(name).weight.copy_(merged)  # type: ignore[operator]


@torch.no_grad()
def merge_adapters(module: nn.Module) -> None:
    """Merge a module's adapters into its linear layers, in place, and take them out."""
    for name, layer in list(_adapters(module)):
        base = layer.get_base_layer()
        base.weight += layer.get_delta_weight(_ADAPTER)
        module.set_submodule(name, base)


def _adapters(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every linear layer with an adapter, by name."""
    for name, child in module.named_modules():
        if hasattr(child, "get_delta_weight"):
            yield name, child
