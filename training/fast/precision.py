"""The number format of the forward pass; weights, gradients and losses stay in float32."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
SamplingPrecision = Literal["auto", "float32", "bfloat16", "int8"]
"""`int8` rounds weights only. It is for answers that people see: PPO's come from exactly the policy being trained."""

_NARROWEST_FOR_LESS = 512
"""Smallest hidden size for which bfloat16 pays: below it, conversion costs more than the products save."""


def autocast(device: torch.device, precision: Precision, hidden_size: int | None = None) -> torch.autocast:
    """A context that computes in bfloat16 if requested, or with `auto` if that is faster; see `compute_dtype`."""
    use_bfloat16 = compute_dtype(device, precision, hidden_size) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bfloat16)


def compute_dtype(device: torch.device, precision: Precision, hidden_size: int | None = None) -> torch.dtype:
    """The format of matrix products: with `auto`, bfloat16 if the hardware supports it and the model is wide enough.

    Never float16: it is many times slower on CPUs, and its range requires loss scaling.

    Args:
        device: where the model is.
        precision: the requested format.
        hidden_size: the model's width; None skips that check.
    """
    wide = hidden_size is None or hidden_size >= _NARROWEST_FOR_LESS
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and wide and _has_native_bfloat16(device))
    return torch.bfloat16 if use_bfloat16 else torch.float32


def current_dtype(device: torch.device) -> torch.dtype:
    """The format of products at this point: that of the enclosing `autocast`, else float32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def full_precision(device: torch.device) -> torch.autocast:
    """A context that computes in the tensors' own format, even within `autocast`: for heads with one output."""
    return torch.autocast(device.type, enabled=False)


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
