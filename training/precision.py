"""In which number format the forward pass computes; weights, gradients and losses stay in float32."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context that computes in bfloat16 where asked to, or with `auto` where the hardware does so natively.

    Never float16: CPUs compute it many times slower, and its range needs loss scaling.
    """
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and _has_native_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bfloat16)


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
