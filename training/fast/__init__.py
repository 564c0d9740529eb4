"""CPU optimisations for PyTorch, each justified by a measurement, and the choice of number format."""

from training.fast.frozen_head import FrozenHead
from training.fast.frozen_layers import hold_narrow, pack_frozen, thawed
from training.fast.fused_gelu import fuse_gelu
from training.fast.gpt2_block import gpt2_block_at
from training.fast.gpt2_decoder import GPT2Decoder
from training.fast.gpt2_weights import GPT2Weights
from training.fast.packed_linear import PackedLinear
from training.fast.precision import (
    Precision,
    SamplingPrecision,
    autocast,
    compute_dtype,
    full_precision,
    proposal_precision,
)
from training.fast.quantized_linear import quantizing_works
from training.fast.short_attention import use_short_attention

__all__ = [
    "FrozenHead",
    "GPT2Decoder",
    "GPT2Weights",
    "PackedLinear",
    "Precision",
    "SamplingPrecision",
    "autocast",
    "compute_dtype",
    "full_precision",
    "fuse_gelu",
    "gpt2_block_at",
    "hold_narrow",
    "pack_frozen",
    "proposal_precision",
    "quantizing_works",
    "thawed",
    "use_short_attention",
]
