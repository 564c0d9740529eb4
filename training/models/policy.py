"""How models are loaded, which of their layers are trained, and the policy with its value head.

Legend: B batch, T tokens, H hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from training.errors import ConfigError, ModelError
from training.fast.frozen_head import FrozenHead
from training.fast.precision import full_precision
from training.models.architectures import backbone_of
from training.models.backbone import Backbone, BlockContext, without_dropout

_MOST_TRAINABLE_LAYERS = 8


def pick_device(device: str) -> torch.device:
    """`auto` is a GPU where there is one; anything else is taken as PyTorch names it.

    Raises:
        ConfigError: there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("this device can't be used", got=device, remedy="Use auto, cpu or cuda.") from error


def load_causal_lm(model: str, device: str = "auto") -> Any:
    """Load a causal language model of any architecture in float32, ready for use and without dropout.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...

    Returns:
        A transformers PreTrainedModel.

    Raises:
        ModelError: it is missing, damaged, or not in safetensors.
    """
    target = pick_device(device)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            "the model can't be loaded",
            got=model,
            expected="a folder with config.json and model.safetensors, or a name on the Hugging Face hub",
            remedy=f"Check the path, the name and the network. ({_first_line(error)})",
        ) from error
    without_dropout(loaded)
    return loaded.to(target)


def trainable_layer_count(n_layers: int, requested: int | None) -> int:
    """How many top layers of the policy are trained: the last 8, or all but the lowest third of a smaller model.

    Raises:
        ConfigError: more layers were requested than there are.
    """
    if requested is None:
        return min(_MOST_TRAINABLE_LAYERS, n_layers - n_layers // 3)
    if requested > n_layers:
        raise ConfigError(
            "trainable_layers is too large", got=requested, expected=f"at most {n_layers}, the model's layers"
        )
    return requested


def reward_layer_count(n_layers: int, frozen_share: float) -> int:
    """How many top layers of the reward model are its own: 70% of 12 frozen leave 3; one is always left."""
    return max(1, int((1 - frozen_share) * n_layers + 1e-9))


class PolicyWithValue(nn.Module):
    """A language model whose top layers are trained, with a value head on its final hidden states.

    Embeddings, output head and bottom layers are the base's own modules, so their activations serve the policy,
    the reference (the base's top layers) and the reward model at once. The value head starts at zero: before
    anything is learned every value is exactly 0.

    Args:
        base: the base model; it is frozen.
        policy: the version to go on from, None to start from the base. Its bottom layers are replaced by the base's.
        trainable_layers: how many top layers to train, None for the default of `trainable_layer_count`.

    Attributes:
        head: from final hidden states to log-probs, frozen and shared by base and policy.

    Raises:
        ModelError: the policy's bottom layers aren't bit for bit the base's.
    """

    def __init__(self, base: Any, policy: Any = None, trainable_layers: int | None = None) -> None:
        super().__init__()
        base.requires_grad_(requires_grad=False)
        self._base = backbone_of(base)
        self.depth = self._base.n_layers - trainable_layer_count(self._base.n_layers, trainable_layers)
        self._policy = backbone_of(copy.deepcopy(base) if policy is None or policy is base else policy)
        self._policy.model.requires_grad_(requires_grad=False)
        self._policy.share_trunk(self._base, self.depth)
        self.top = self._policy.top(self.depth).requires_grad_()
        self.value_head = nn.Linear(self._base.hidden_size, 1, device=self._base.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.head = FrozenHead(base.get_output_embeddings())

    @property
    def base(self) -> Backbone:
        """The frozen base; its layers above `depth` are the reference policy."""
        return self._base

    @property
    def language_model(self) -> Any:
        """The policy as a transformers PreTrainedModel, for sampling and saving; it shares this module's weights."""
        return self._policy.model

    def trunk(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Hidden states (B, T, H) below the trained layers, the same for base and policy. No gradient."""
        return self._base.activations(ids, context, [self.depth])[self.depth]

    def forward(self, trunk: Tensor, context: BlockContext) -> Tensor:
        """Trunk activations (B, T, H) to the policy's final hidden states (B, T, H)."""
        return self.top(trunk, context)  # type: ignore[no-any-return]

    def reference(self, trunk: Tensor, context: BlockContext) -> Tensor:
        """Trunk activations (B, T, H) to the reference policy's final hidden states (B, T, H). No gradient."""
        with torch.no_grad():
            hidden = self._base.run(trunk, context, self.depth, self._base.n_layers)
            return self._base.norm(hidden)  # type: ignore[no-any-return]

    def values(self, hidden: Tensor) -> Tensor:
        """Final hidden states (..., H) to values (...)."""
        with full_precision(hidden.device):
            return self.value_head(hidden.float()).squeeze(-1)  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
