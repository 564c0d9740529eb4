"""Loads models in float32 on the requested device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from training.errors import ConfigError, ModelError, first_line
from training.models.backbone import without_dropout

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def pick_device(device: str) -> torch.device:
    """The device by PyTorch's name for it; `auto` is a GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("this device can't be used", got=device, remedy="Use auto, cpu or cuda.") from error


def load_causal_lm(model: str, device: str = "auto") -> Any:
    """Load a causal language model of any architecture in float32, without dropout.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...

    Returns:
        A transformers PreTrainedModel.

    Raises:
        ModelError: it is missing, damaged, or not in safetensors.
    """
    target = pick_device(device)
    _refuse_pickles(Path(model))
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            "the model can't be loaded",
            got=model,
            expected="a folder with config.json and model.safetensors, or a name on the Hugging Face hub",
            remedy=f"Check the path, the name and the network. ({first_line(error)})",
        ) from error
    without_dropout(loaded)
    return loaded.to(target)


def _refuse_pickles(folder: Path) -> None:
    """Say what to do about weights that are only there as a pickle, which may run any code when it is loaded.

    Raises:
        ModelError: they are.
    """
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern)) if folder.is_dir() else []
    if pickles and not any(folder.glob("*.safetensors")):
        raise ModelError(
            "the model's weights are pickled, and loading a pickle can run any code",
            got=f"{folder} with {pickles[0]}",
            expected="weights in safetensors",
            remedy="Fetch the model's safetensors files; if there are none and you trust its source, load it with "
            "transformers elsewhere and save it with save_pretrained.",
        )
