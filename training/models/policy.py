"""Which layers of a model are trained, and the policy with its value head.

Legend: B batch, T tokens, H hidden size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from training.config import LoRAConfig
from training.errors import ConfigError
from training.fast import full_precision, thawed
from training.lora import add_adapters, merge_into
from training.models.architectures import backbone_of
from training.models.backbone import Backbone, BlockContext, TopLayers
from training.models.copies import frozen_copies, own_parameters

_MOST_TRAINABLE_LAYERS = 8


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
    """How many top layers of the reward model are its own: 70% of 12 frozen leave 3; there is always at least one."""
    return max(1, int((1 - frozen_share) * n_layers + 1e-9))


class PolicyWithValue(nn.Module):
    """A language model whose top layers are trained, with a value head on its final hidden states.

    Embeddings, output head and bottom layers are the base's own modules, so their activations serve the policy,
    the reference (the base's top layers) and the reward model at once. The value head starts at zero, so every value
    is exactly 0 before training.

    Args:
        base: the base model; it is frozen.
        policy: the version to start from (left unchanged), None to start from the base.
        trainable_layers: how many top layers to train, None for the default of `trainable_layer_count`.
        lora: train low-rank adapters beside these layers in their place.

    Attributes:
        head: maps final hidden states to log-probs; frozen and shared by base and policy.

    Raises:
        ModelError: the policy's bottom layers aren't bit for bit the base's.
    """

    def __init__(
        self, base: Any, policy: Any = None, trainable_layers: int | None = None, lora: LoRAConfig | None = None
    ) -> None:
        super().__init__()
        base.requires_grad_(requires_grad=False)
        self._base = backbone_of(base)
        self.depth = self._base.n_layers - trainable_layer_count(self._base.n_layers, trainable_layers)
        start = base if policy is None else policy
        (copied,) = frozen_copies(start)
        self._policy = backbone_of(copied)
        self._policy.share_trunk(self._base, self.depth)
        self.top = own_parameters(self._policy.top(self.depth))
        self._merged: list[TopLayers] = []  # a list, so that it isn't a submodule
        if lora is not None:
            self._merged = [self.top.requires_grad_(requires_grad=False)]
            (copied,) = frozen_copies(start)
            self.top = add_adapters(thawed(backbone_of(copied).top(self.depth)), lora)
        self.value_head = nn.Linear(self._base.hidden_size, 1, device=self._base.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.head = self._base.frozen_head()

    @property
    def base(self) -> Backbone:
        """The frozen base; its layers above `depth` are the reference policy."""
        return self._base

    @property
    def language_model(self) -> Any:
        """The policy as an ordinary transformers PreTrainedModel, for sampling and saving, after `settle`.

        Whole layers that are trained are its own; adapters are merged into it.
        """
        return self._policy.model

    def settle(self) -> None:
        """Bring `language_model` up to date with what has been learned: adapters aren't part of it, but merged in."""
        for plain in self._merged:
            merge_into(plain, self.top)

    def learned(self) -> dict[str, Tensor]:
        """Everything that training changes, by name."""
        state: dict[str, Tensor] = self.state_dict()
        frozen = {name for name, value in self.named_parameters() if not value.requires_grad}
        return {name: value for name, value in state.items() if name not in frozen}

    def learn(self, learned: dict[str, Tensor]) -> None:
        """Go back to what `learned` returned."""
        self.load_state_dict({**self.state_dict(), **learned})
        self.settle()

    def forward(self, trunk: Tensor, context: BlockContext) -> Tensor:
        """Map trunk activations (B, T, H) to the policy's final hidden states (B, T, H)."""
        return self.top(trunk, context)  # type: ignore[no-any-return]

    def values(self, hidden: Tensor) -> Tensor:
        """Map final hidden states (..., H) to values (...)."""
        with full_precision(hidden.device):
            return self.value_head(hidden.float()).squeeze(-1)  # type: ignore[no-any-return]
