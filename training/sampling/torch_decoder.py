"""Decoding with the model's own `forward` and transformers' key-value cache: on a GPU, and where OpenVINO isn't.

Legend: N prompts, P tokens of the longest, B answers (rows), T tokens read at a time, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from training.models import position_ids


class TorchEngine:
    """A model that decodes itself, always with its current weights.

    Products are computed in the format of its weights.

    Args:
        model: a transformers PreTrainedModel with a key-value cache.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._device = model, model.device
        self.bytes_per_token = _bytes_per_token(model)

    def fits(self, model: Any) -> bool:
        """Whether this is that model's engine, on its current device."""
        return self._model is model and self._device == model.device

    def refresh(self) -> None:
        """Nothing to do: the model's weights are used in place."""

    def start(self, ids: Tensor, mask: Tensor, *, copies: int) -> TorchDecoder:
        """Read prompts (N, P) long, padded on the left as in `mask` (N, P) bool, for `copies` answers to each."""
        return TorchDecoder(self._model, ids, mask, copies=copies)


class TorchDecoder:
    """One batch of answers; see `training.sampling.decoders.Decoder`.

    Args:
        model: a transformers PreTrainedModel.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers per prompt.
    """

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, *, copies: int) -> None:
        self._model = model
        self._takes = inspect.signature(model.forward).parameters
        self.logits = self._step(ids, mask, position_ids(mask), None).repeat_interleave(copies, dim=0)
        if copies > 1:
            self._cache.batch_repeat_interleave(copies)
        self._mask = mask.repeat_interleave(copies, dim=0)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        self._mask = F.pad(self._mask, (0, 1), value=True)
        self.logits = self._step(tokens[:, None], self._mask, self._mask.sum(dim=1, keepdim=True) - 1, self._cache)

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""
        self._cache.batch_select_indices(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Read ids (B, T) after the cached tokens and cache them; returns the last token's logits (B, V)."""
        # ALiBi models take no positions, and not every model can skip logits.
        optional = {"position_ids": positions, "logits_to_keep": 1}
        found = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._takes},
        )
        self._cache: Any = found.past_key_values
        return found.logits[:, -1].float()  # type: ignore[no-any-return]


def _bytes_per_token(model: Any) -> int:
    """What a token of one row takes in the cache: a key and a value for each layer and key-value head."""
    config = model.config.get_text_config(decoder=True)
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    key_value_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    return 2 * int(config.num_hidden_layers) * key_value_heads * size * int(model.dtype.itemsize)
