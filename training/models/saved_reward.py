"""The files of a saved reward model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from training.models.probe import Site

WEIGHTS_FILE = "reward_model.safetensors"
CONFIG_FILE = "reward_config.json"


class SavedReward(BaseModel):
    """The content of `reward_config.json`, beside the weights. Older versions wrote no probe."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # older versions wrote more

    n_layers: int
    own_layers: Annotated[int, Field(ge=0)]
    heads: Annotated[int, Field(ge=1)] = 1
    judges: Annotated[int, Field(ge=0)] = 0
    sites: tuple[Site, ...] = ()
    hidden_size: int
    base_digest: str
    digest_depth: int | None = None
    temperature: Annotated[float, Field(gt=0.0)]
    uncertainty_scale: Annotated[float, Field(gt=0.0)] = 1.0
