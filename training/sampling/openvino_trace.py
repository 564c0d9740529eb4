"""One pass of a transformers model as a function of plain tensors, which a tracer can follow.

The model's own `forward` runs on a copy that shares its weights, with attention and masks of ours: what transformers
does there depends on the shapes of the example and would be baked into the trace. Everything else, such as norms,
rotations, learned positions or soft caps, is the architecture's.

Legend: B rows, T new tokens, S tokens so far with the new ones, A heads, K key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

_NAME = "rankloop_traced"
_HIDDEN = -1e9
"""What is added to the scores of tokens that a query doesn't see: finite, since a softmax over nothing is NaN."""
_ROTATIONS_OF_ANY_LENGTH = {"default", "linear", "llama3", "yarn", "proportional"}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


class NotConvertibleError(Exception):
    """An architecture that OpenVINO can't decode, with the reason; the PyTorch decoder takes it."""


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs to trace with: two rows of three tokens, one of them padded, after four remembered tokens."""

    past: list[Tensor]

    @classmethod
    def of(cls, model: Any) -> Example:
        """With the shapes of the model's own cache.

        Raises:
            NotConvertibleError: the cache holds something else than keys and values.
        """
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            ids = torch.ones(2, 4, dtype=torch.long)
            found = model(input_ids=ids, attention_mask=ids, use_cache=True)
        cache = getattr(found, "past_key_values", None)
        past: list[Tensor] = []
        for layer in getattr(cache, "layers", ()):
            parts = getattr(layer, "keys", None), getattr(layer, "values", None)
            if not all(isinstance(part, Tensor) and part.dim() == 4 and len(part) == 2 for part in parts):
                raise NotConvertibleError("its cache isn't one of keys and values")
            past += [torch.zeros(2, part.shape[1], 4, part.shape[3]) for part in parts if part is not None]
        if not past:
            raise NotConvertibleError("its cache isn't one of keys and values")
        return cls(past)

    def inputs(self) -> tuple[Tensor, ...]:
        """Ids, mask, positions, and the past."""
        mask = torch.ones(2, 7, dtype=torch.long)
        mask[1, 0] = 0
        positions = torch.tensor([[4, 5, 6], [3, 4, 5]])
        return torch.ones(2, 3, dtype=torch.long), mask, positions, *self.past


@dataclass(slots=True)
class _Masks:
    """The masks (B, 1, T, S) of the pass being traced, which the model's own mask functions give back."""

    full: Tensor | None = None
    window: Tensor | None = None


_current = _Masks()  # tracing runs under a lock, see `openvino_decoder`


class _Cache:
    """Keys and values so far as inputs of the graph, with what a forward pass asks of a transformers cache."""

    is_compileable = False

    def __init__(self, past: list[tuple[Tensor, Tensor]]) -> None:
        self.layers = past
        self.is_sliding = [False] * len(past)
        self.is_linear = self.is_dummy = self.is_sliding
        self._length = past[0][0].shape[2]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append a layer's new keys and values (B, K, T, D)."""
        before = self.layers[layer_idx]
        joined = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        self.layers[layer_idx] = joined
        return joined

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """How many tokens came before this pass."""
        return self._length

    def get_query_offset(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """The same."""
        return self._length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:  # noqa: ARG002
        """Tokens with the new ones, and where the first of them is."""
        return self._length + query_length, 0

    def __len__(self) -> int:
        return len(self.layers)


class Step(nn.Module):
    """One pass of the model over new tokens, with masks and cache as plain tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = _copy_sharing_weights(model)
        self._takes = inspect.signature(model.forward).parameters
        self._window = getattr(model.config.get_text_config(decoder=True), "sliding_window", None)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, V), then each layer's keys and values (B, K, S, D)."""
        cache = _Cache(list(zip(past[::2], past[1::2], strict=True)))
        _current.full, _current.window = _additive(mask, ids.shape[1], None), None
        if self._window:
            _current.window = _additive(mask, ids.shape[1], self._window)
        optional = {"position_ids": positions, "logits_to_keep": 1}
        found = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._takes},
        )
        return found.logits[:, -1].float(), *(part for layer in cache.layers for part in layer)


def _additive(mask: Tensor, new: int, window: int | None) -> Tensor:
    """What is added to attention scores: (B, 1, T, S) from real tokens (B, S) long."""
    columns = torch.arange(mask.shape[1])
    rows = columns[-new:, None]
    sees = columns <= rows
    if window:
        sees = sees & (columns > rows - window)
    sees = sees & (mask[:, None, None] > 0)
    return torch.where(sees, torch.tensor(0.0), torch.tensor(_HIDDEN))


def _mask_of_this_pass(*_: Any, local_size: int | None = None, **__: Any) -> Tensor | None:
    """A mask function as transformers expects it."""
    return _current.full if local_size is None else _current.window


def _attend(
    _module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **arguments: Any
) -> tuple[Tensor, None]:
    """An attention function as transformers expects it: query (B, A, T, D), key and value (B, K, S, D)."""
    if arguments.get("s_aux") is not None or arguments.get("position_bias") is not None:
        raise NotConvertibleError("its attention has sinks or position biases")
    groups = query.shape[1] // key.shape[1] if key.shape[1] != query.shape[1] else 1
    key, value = (_for_each_query(part, int(groups)) for part in (key, value))
    scaling, softcap = arguments.get("scaling"), arguments.get("softcap")
    mask = attention_mask.to(query.dtype)
    if softcap is None:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    else:
        scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        attended = ((scores / softcap).tanh() * softcap + mask).softmax(dim=-1) @ value
    return attended.transpose(1, 2).contiguous(), None


def _for_each_query(states: Tensor, groups: int) -> Tensor:
    """Keys or values (B, K, S, D) repeated for each of the queries that share them: (B, A, S, D)."""
    if groups == 1:
        return states
    batch, heads, length, size = states.shape
    return states[:, :, None].expand(batch, heads, groups, length, size).reshape(batch, heads * groups, length, size)


def _copy_sharing_weights(model: Any) -> Any:
    """The model's modules anew, over the same weights, with our attention."""
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _mask_of_this_pass)
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared).eval()
    for module in copied.modules():
        if hasattr(module, "loss_type"):
            module.loss_type = "ForCausalLM"  # which the tracer reads, and transformers would warn about
        config = getattr(module, "config", None)
        if config is not None:
            config._attn_implementation = _NAME
    return copied


def refuse_what_depends_on_the_data(model: Any) -> None:
    """Raise NotConvertibleError if a trace would hold only for the example."""
    config = model.config.get_text_config(decoder=True)
    for name in _EXPERTS:
        if (getattr(config, name, None) or 0) > 1:
            raise NotConvertibleError("which experts it uses depends on the tokens")
    for kind in _rope_kinds(getattr(config, "rope_parameters", None) or {}):
        if kind not in _ROTATIONS_OF_ANY_LENGTH:
            raise NotConvertibleError(f"its rotary embedding ({kind}) depends on the length of the text")


def _rope_kinds(parameters: Any) -> Iterator[str]:
    if "rope_type" in parameters:
        yield parameters["rope_type"]
    for value in parameters.values():
        if isinstance(value, dict):
            yield from _rope_kinds(value)
