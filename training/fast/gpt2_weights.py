"""GPT-2's weights as the decoder uses them: in its number format, packed where that helps, in sync with the model.

Legend: C hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.fast.packed_linear import PackedLinear, packing_works
from training.fast.quantized_linear import QuantizedLinear

Linear = PackedLinear | QuantizedLinear

_TANH_GELUS = {"gelu_new", "gelu_pytorch_tanh"}


@dataclass(slots=True)
class GPT2Block:
    """The weights of one block.

    activation: the feed-forward activation, None where the first feed-forward layer applies it itself.
    """

    attention_norm: nn.LayerNorm
    feed_forward_norm: nn.LayerNorm
    query_key_value: Linear
    attention_output: Linear
    feed_forward_in: Linear
    feed_forward_out: Linear
    scaling: float
    activation: Callable[[Tensor], Tensor] | None


class GPT2Weights:
    """A GPT-2's weights, ready for decoding.

    In float32 on a GPU they are the model's own; otherwise a copy, which `refresh` updates. Norms and embeddings are
    always the model's own, in float32, as is the residual stream.

    Args:
        model: a GPT2LMHeadModel in float32.
        dtype: what matrix products are computed in: float32, bfloat16, or int8 where `quantizing_works`.

    Attributes:
        dtype: the input format of linear layers: float32 for int8.
        blocks: lowest first.
        head: final hidden states (..., C) to logits (..., V).
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._products = dtype
        self.dtype = torch.float32 if dtype == torch.int8 else dtype
        self._model, self._device = model, model.device
        self.head = self._linear()
        self.blocks: list[GPT2Block] = []
        self.refresh()

    @property
    def heads(self) -> int:
        """How many attention heads a block has."""
        return int(self._model.config.n_head)

    @property
    def token_embedding(self) -> Tensor:
        """(V, C)."""
        weight: Tensor = self._model.transformer.wte.weight
        return weight

    @property
    def position_embedding(self) -> Tensor:
        """(positions, C)."""
        weight: Tensor = self._model.transformer.wpe.weight
        return weight

    @property
    def final_norm(self) -> nn.LayerNorm:
        """The norm before the head."""
        norm: nn.LayerNorm = self._model.transformer.ln_f
        return norm

    def fits(self, model: Any) -> bool:
        """Whether these weights belong to that model, on its current device."""
        return self._model is model and self._device == model.device and not model.training

    def refresh(self) -> None:
        """Take over what has changed in the model since the last call."""
        modules = list(self._model.transformer.h)
        if len(self.blocks) != len(modules):
            self.blocks = [self._block(module) for module in modules]
        for block, module in zip(self.blocks, modules, strict=True):
            block.attention_norm, block.feed_forward_norm = module.ln_1, module.ln_2
            for linear, source in (
                (block.query_key_value, module.attn.c_attn),
                (block.attention_output, module.attn.c_proj),
                (block.feed_forward_in, module.mlp.c_fc),
                (block.feed_forward_out, module.mlp.c_proj),
            ):
                linear.load(source.weight, source.bias, transposed=True)
        self.head.load(self._model.lm_head.weight, centred=self._products != torch.float32)

    def _block(self, module: Any) -> GPT2Block:
        fused = self._model.config.activation_function in _TANH_GELUS
        return GPT2Block(
            attention_norm=module.ln_1,
            feed_forward_norm=module.ln_2,
            query_key_value=self._linear(),
            attention_output=self._linear(),
            feed_forward_in=self._linear(),
            feed_forward_out=self._linear(),
            scaling=float(module.attn.scaling),
            activation=None if fused else module.mlp.act,
        )

    def _linear(self) -> Linear:
        if self._products == torch.int8:
            return QuantizedLinear()
        return PackedLinear(self.dtype, packed=self._device.type == "cpu" and packing_works(self.dtype))
