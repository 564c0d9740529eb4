"""The policy that the KL is measured from: the base, or the supervised policy where supervised training ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from training.models import PolicyWithValue, backbone_of, frozen_copies


@dataclass(frozen=True, slots=True)
class Reference:
    """A frozen policy on the same trunk as the one being trained.

    model: the whole of it (a transformers PreTrainedModel), for sampling.
    top: its layers above the trunk; None for the base, whose own layers are used.
    """

    model: Any
    top: nn.Module | None = None

    @classmethod
    def on_trunk(cls, policy: PolicyWithValue, model: Any = None) -> Self:
        """The policy's base if `model` is None, else a frozen copy of `model` that shares the base's trunk.

        Raises:
            ModelError: the model's bottom layers aren't bit for bit the base's.
        """
        if model is None:
            return cls(policy.base.model)
        (copied,) = frozen_copies(model)
        backbone = backbone_of(copied)
        backbone.share_trunk(policy.base, policy.depth)
        return cls(backbone.model, backbone.top(policy.depth))
