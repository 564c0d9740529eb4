"""What all settings are made of, and how answers are sampled."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]


class Config(BaseModel):
    """A group of settings: unknown keys are errors, and nothing changes after creation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplingConfig(Config):
    """How answers are sampled: for people, in PPO and in evaluations alike.

    PPO's log-probs are those of the full distribution at the temperature, so `top_k` 0 and `top_p` 1, which cut nothing
    off, are the default, and the temperature is what keeps answers sensible. A chat model's defaults are a temperature
    of 0.7 and 256 tokens; see `CycleConfig.suited_to`.
    """

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Positive = 64

    def changed(self, **settings: float | None) -> Self:
        """With the settings that are given; those that are None stay."""
        return self.model_validate(
            {**self.model_dump(exclude_unset=True), **{k: v for k, v in settings.items() if v is not None}}
        )


class LoRAConfig(Config):
    """Low-rank adapters beside the linear layers, for `trainable: lora` (Hu et al. 2021, 2106.09685).

    `targets` are names of linear layers as they end, for instance `q_proj`; None adapts all of them. The adapters'
    product is scaled by `alpha / rank`. They need a learning rate about ten times that of whole layers.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    targets: tuple[str, ...] | None = None
