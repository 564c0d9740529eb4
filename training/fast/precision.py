"""In which number format the forward pass computes; weights, gradients and losses stay in float32."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
SamplingPrecision = Literal["auto", "float32", "bfloat16", "int8"]
"""`int8` is for answers that people see: those that PPO trains on must come from the very policy that it trains."""

_NARROWEST_FOR_LESS = 512
"""Hidden size from which on bfloat16 and int8 pay: below it, converting costs more than the products save."""


def autocast(device: torch.device, precision: Precision, hidden_size: int | None = None) -> torch.autocast:
    """A context that computes in bfloat16 where asked to, or with `auto` where it is faster; see `compute_dtype`."""
    use_bfloat16 = compute_dtype(device, precision, hidden_size) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bfloat16)


def compute_dtype(device: torch.device, precision: Precision, hidden_size: int | None = None) -> torch.dtype:
    """The format of matrix products: with `auto`, bfloat16 where the hardware has it and the model is wide enough.

    Never float16: CPUs compute it many times slower, and its range needs loss scaling.

    Args:
        device: where the model is.
        precision: what was asked for.
        hidden_size: how wide the model is; None doesn't ask.
    """
    wide = hidden_size is None or hidden_size >= _NARROWEST_FOR_LESS
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and wide and _has_native_bfloat16(device))
    return torch.bfloat16 if use_bfloat16 else torch.float32


def current_dtype(device: torch.device) -> torch.dtype:
    """What products are computed in here: `autocast`'s format within one, else float32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def proposal_precision(asked: SamplingPrecision, hidden_size: int) -> SamplingPrecision:
    """What to sample proposals in: `auto` is int8 for models wide enough, which is `auto` again without the hardware.

    Args:
        asked: what was asked for.
        hidden_size: how wide the model is.
    """
    return "int8" if asked == "auto" and hidden_size >= _NARROWEST_FOR_LESS else asked


def full_precision(device: torch.device) -> torch.autocast:
    """A context that computes in the tensors' own format, within one of `autocast` too: for heads with one output."""
    return torch.autocast(device.type, enabled=False)


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
