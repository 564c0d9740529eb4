"""Decoding step by step with a key-value cache: each prompt is read once, and its cache serves all its answers.

OpenVINO decodes on x86 processors; the model's own `forward` in PyTorch elsewhere, and where OpenVINO can't.

Legend: N prompts, P tokens of the longest prompt, B answers (rows), V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from functools import cache
from typing import Any, Protocol

from torch import Tensor

from training.errors import ModelError, first_line
from training.fast import SamplingPrecision
from training.sampling.openvino_decoder import OpenVINOEngine
from training.sampling.torch_decoder import TorchEngine

_log = logging.getLogger(__name__)

_FEWEST_WEIGHTS = 2**20
"""Below this many, preparing a model for OpenVINO (a second) takes longer than it ever saves."""
_FEWEST_TRAINED = 2**24
"""The same for a model in training, which is compiled anew for every iteration (a quarter of a second)."""


class Decoder(Protocol):
    """One batch of answers being decoded.

    Attributes:
        logits: (B, V) float32, for the next token of each row; valid until the next call of `advance`.
    """

    logits: Tensor

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""


class Engine(Protocol):
    """A model ready for decoding.

    Attributes:
        bytes_per_token: what a token of one row takes in the cache.
    """

    bytes_per_token: int

    def fits(self, model: Any) -> bool:
        """Whether this is that model's engine, on its current device."""

    def refresh(self) -> None:
        """Take over what has changed in the model's weights since the last call."""

    def start(self, ids: Tensor, mask: Tensor, *, copies: int) -> Decoder:
        """Read prompts (N, P) long, padded on the left as in `mask` (N, P) bool, for `copies` answers to each."""


def engine_for(model: Any, precision: SamplingPrecision) -> Engine:
    """The fastest engine that can decode a model here.

    Args:
        model: a transformers PreTrainedModel.
        precision: number format of matrix products.

    Raises:
        ModelError: the model has no key-value cache, so padding would be read as text.
    """
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ModelError(
            "this model architecture can't be sampled from: it has no key-value cache",
            got=str(model.config.model_type),
            expected="a decoder-only transformer",
            remedy="Choose another model.",
        )
    is_trained = any(weight.requires_grad for weight in model.parameters())
    fewest = _FEWEST_TRAINED if is_trained else _FEWEST_WEIGHTS
    if model.device.type != "cpu" or model.num_parameters() < fewest:
        return TorchEngine(model)
    try:
        return OpenVINOEngine(model, precision)
    except Exception as error:  # whatever an unknown architecture makes the tracer do, PyTorch decodes it
        _warn_once(str(model.config.model_type), first_line(error))
        return TorchEngine(model)


@cache
def _warn_once(architecture: str, reason: str) -> None:
    _log.warning("%s is decoded by PyTorch, several times slower than by OpenVINO: %s", architecture, reason)
