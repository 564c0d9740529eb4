"""CPU optimisations for PyTorch, each justified by a measurement, and the choice of number format."""

from training.fast.frozen_head import FrozenHead
from training.fast.frozen_layers import hold_narrow, pack_frozen, thawed
from training.fast.fused_gelu import fuse_gelu
from training.fast.gpt2_block import gpt2_block_at
from training.fast.length_groups import length_groups
from training.fast.packed_linear import PackedLinear, identity
from training.fast.precision import (
    Precision,
    SamplingPrecision,
    autocast,
    compute_dtype,
    full_precision,
)
from training.fast.short_attention import use_short_attention

__all__ = [
    "FrozenHead",
    "PackedLinear",
    "Precision",
    "SamplingPrecision",
    "autocast",
    "compute_dtype",
    "full_precision",
    "fuse_gelu",
    "gpt2_block_at",
    "hold_narrow",
    "identity",
    "length_groups",
    "pack_frozen",
    "thawed",
    "use_short_attention",
]
