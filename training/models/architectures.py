"""The architectures that can be trained: where each keeps its parts, and what its blocks need.

GPT-2 adds learned positions to its embeddings, so its blocks need only a mask. Llama and its relatives rotate queries
and keys by position in every block, so the rotations are computed once per batch and passed to each.

Legend: B batch, T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.errors import ModelError
from training.fast import gpt2_block_at
from training.models.backbone import Backbone, BlockContext, TopLayers, attention_mask
from training.models.text import position_ids

_ROTATIONS_OF_ANY_LENGTH = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings that rotate a token the same way whatever the length of its batch."""


class GPT2Backbone(Backbone):
    """GPT-2 of any size. With tied weights, its output head is the token embedding."""

    EMBEDDINGS = ("transformer.wte", "transformer.wpe", "lm_head")
    BLOCKS = "transformer.h"
    NORM = "transformer.ln_f"

    def context(self, mask: Tensor) -> BlockContext:
        """Positions over real tokens, and an attention mask if the padding requires one."""
        return BlockContext(positions=position_ids(mask), arguments={"attention_mask": attention_mask(mask)})

    def embed(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Token plus position embedding."""
        transformer = self.model.transformer
        return transformer.wte(ids) + transformer.wpe(context.positions)  # type: ignore[no-any-return]

    def finish_at(self, top: TopLayers, hidden: Tensor, context: BlockContext, places: Tensor) -> Tensor:
        """The last block computes keys and values for every token, and all else at `places` only.

        With few places, that is two twelfths of its full work.
        """
        if context.arguments["attention_mask"] is not None or self.model.config.reorder_and_upcast_attn:
            return super().finish_at(top, hidden, context, places)
        for block in top.blocks[:-1]:
            hidden = block(hidden, **context.arguments)
        return top.norm(gpt2_block_at(top.blocks[-1], hidden, places))  # type: ignore[no-any-return]


class RotaryBackbone(Backbone):
    """Llama, Mistral, Qwen 2 and Qwen 3, which keep their parts in the same places.

    If a model has a sliding attention window, sequences are kept within it, where it makes no difference.

    Raises:
        ModelError: its rotary embedding depends on the batch's length.
    """

    EMBEDDINGS = ("model.embed_tokens", "model.rotary_emb", "lm_head")
    BLOCKS = "model.layers"
    NORM = "model.norm"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        kind = model.config.rope_parameters["rope_type"]
        if kind not in _ROTATIONS_OF_ANY_LENGTH:
            raise ModelError(
                "this rotary embedding can't be used in training: it depends on what else is in the batch",
                got=kind,
                expected=f"one of {', '.join(sorted(_ROTATIONS_OF_ANY_LENGTH))}",
                remedy="Choose another base model.",
            )

    def context(self, mask: Tensor) -> BlockContext:
        """Positions over real tokens with their rotations, and an attention mask if the padding requires one."""
        positions = position_ids(mask)
        inner = self.model.model
        rotations = inner.rotary_emb(inner.embed_tokens.weight, position_ids=positions)
        return BlockContext(
            positions=positions,
            arguments={"attention_mask": attention_mask(mask), "position_embeddings": rotations},
        )

    def embed(self, ids: Tensor, context: BlockContext) -> Tensor:  # noqa: ARG002
        """Token embedding; the blocks apply the positions."""
        return self.model.model.embed_tokens(ids)  # type: ignore[no-any-return]


_ADAPTERS: Mapping[str, type[Backbone]] = {
    "gpt2": GPT2Backbone,
    "llama": RotaryBackbone,
    "mistral": RotaryBackbone,
    "qwen2": RotaryBackbone,
    "qwen3": RotaryBackbone,
}


def backbone_of(model: Any) -> Backbone:
    """The adapter for a Hugging Face causal language model.

    Raises:
        ModelError: there is no adapter for its architecture.
    """
    architecture = str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
    adapter = _ADAPTERS.get(architecture)
    if adapter is None:
        raise ModelError(
            "this model architecture can be sampled from, but not trained",
            got=architecture,
            expected=f"one of {', '.join(_ADAPTERS)}",
            remedy="Choose one of these base models, or add an adapter in training/models/architectures.py.",
        )
    return adapter(model)
