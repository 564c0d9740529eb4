"""Any decoder-only model as a backbone; those that can't be trained are refused with the reason.

A backbone's parts are compared with the whole model before they are used, so that a model which isn't what it seems
is an error, never a wrong result.

Legend: B batch, T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import ModelError
from training.fast import full_precision, gpt2_block_at, use_short_attention
from training.models.backbone import (
    Backbone,
    BlockContext,
    TopLayers,
    attention_mask,
    without_right_padding,
)
from training.models.copies import without_dropout
from training.models.structure import BlockCall, Structure, structure_of, unsupported

_ROTATIONS_OF_ANY_LENGTH = {"default", "linear", "llama3", "yarn", "proportional"}
"""Rotary embeddings that rotate a token the same way whatever the length of its batch."""
_ROUTED = re.compile(r"moe|experts|router", re.IGNORECASE)
_TOKENS = 6  # read to find and check a model's parts
_TOLERANCE = 1e-2  # of logits, in units of their spread: far above rounding, far below any difference of method

_KNOWN: dict[tuple[type, str], Structure] = {}  # by class and configuration, since copies of models come and go


class GPT2Backbone(Backbone):
    """GPT-2, with two shortcuts: its blocks need nothing but a mask, and its last block can be run for a few tokens."""

    def context(self, mask: Tensor) -> BlockContext:
        """Positions, and an attention mask if the padding requires one."""
        seen, positions = without_right_padding(mask)
        call = BlockCall((), {"attention_mask": None if seen is None else attention_mask(seen)})
        return BlockContext(positions, seen, [call] * self.n_layers)

    def embed(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Token plus position embedding."""
        transformer = self.model.transformer
        return transformer.wte(ids) + transformer.wpe(context.positions)  # type: ignore[no-any-return]

    def finish_at(self, top: TopLayers, hidden: Tensor, context: BlockContext, places: Tensor) -> Tensor:
        """The last block computes keys and values for every token, and all else at `places` only.

        With few places, that is two twelfths of its full work.
        """
        if context.mask is not None or self.model.config.reorder_and_upcast_attn:
            return super().finish_at(top, hidden, context, places)
        below = top.run(hidden, context, len(top.blocks) - 1)
        return top.norm(gpt2_block_at(top.blocks[-1], below, places))  # type: ignore[no-any-return]


def backbone_of(model: Any) -> Backbone:
    """A Hugging Face causal language model in parts.

    The first time, it reads a few tokens to find the parts and to check them.

    Raises:
        ModelError: it can't be trained; the error says why.
    """
    kind = GPT2Backbone if type(model).__name__ == "GPT2LMHeadModel" else Backbone
    without_dropout(model)
    key = type(model), _key_of(model)
    if key not in _KNOWN:
        _refuse_other_kinds(model)
    use_short_attention(model)  # which treats "no mask" as causal, the fast path for right-padded batches
    if key not in _KNOWN:
        device = model.get_input_embeddings().weight.device
        with torch.no_grad(), full_precision(device):
            ids = (torch.arange(_TOKENS, device=device)[None] + 3) % model.get_input_embeddings().weight.shape[0]
            found, logits = structure_of(model, ids)
            _check(kind(model, found), ids, logits[0].float())
        _KNOWN[key] = found
    return kind(model, _KNOWN[key])


def _key_of(model: Any) -> str:
    return str(model.config.to_json_string(use_diff=False)) if hasattr(model, "config") else type(model).__name__


def _refuse_other_kinds(model: Any) -> None:
    """Refuse what is known not to be an ordinary decoder.

    Raises:
        ModelError: it can't be trained.
    """
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        raise unsupported(model, "it has an encoder")
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise unsupported(model, "it has no key-value cache")
    modules = list(model.modules())
    if any(_ROUTED.search(type(module).__name__) for module in modules):
        raise unsupported(model, "it is a mixture of experts, whose router has a loss of its own")
    kinds = set(getattr(config, "layer_types", None) or ())
    recurrent = any(isinstance(module, nn.Conv1d) for module in modules)
    if recurrent or any(not kind.endswith("attention") or kind.startswith("linear") for kind in kinds):
        raise unsupported(model, "it has layers that aren't attention, whose state padding would change")
    for kind in sorted(set(_rotations(getattr(config, "rope_parameters", None)))):
        if kind not in _ROTATIONS_OF_ANY_LENGTH:
            raise ModelError(
                "this rotary embedding can't be used in training: it depends on what else is in the batch",
                got=kind,
                expected=f"one of {', '.join(sorted(_ROTATIONS_OF_ANY_LENGTH))}",
                remedy="Choose another base model.",
            )


def _rotations(parameters: Any) -> Iterator[str]:
    """Every kind of rotary embedding in a configuration, which may have one for each kind of layer."""
    if isinstance(parameters, dict):
        if isinstance(kind := parameters.get("rope_type"), str):
            yield kind
        for value in parameters.values():
            yield from _rotations(value)


def _check(backbone: Backbone, ids: Tensor, whole: Tensor) -> None:
    """Compare the parts of a model, on token ids (1, T) padded on either side, with its own logits (T, V) without.

    Raises:
        ModelError: they differ, so the model does something between its parts that isn't known here.
    """
    if not bool(torch.isfinite(whole).all()):
        raise ModelError("the model's logits are NaN or infinite", remedy="Its weights are damaged: fetch it again.")
    spread = float(whole.std()) + 1e-6
    noise = ids.flip(1)[:, :2]  # a causal model doesn't see padding, whatever tokens it consists of
    for side, left in (("right", 0), ("left", noise.shape[1])):
        padded = torch.cat([noise, ids] if left else [ids, noise], dim=1)
        mask = torch.zeros_like(padded, dtype=torch.bool)
        mask[:, left : left + ids.shape[1]] = True
        context = backbone.context(mask)
        middle = backbone.n_layers // 2
        below = backbone.run(backbone.embed(padded, context), context, 0, middle)
        found = backbone.logits(backbone.top(middle)(below, context)[mask]).float()
        if not bool(((found - whole).abs().max() / spread) < _TOLERANCE):
            raise unsupported(
                backbone.model, f"its parts don't give what the whole model gives, for a sequence padded on the {side}"
            )
