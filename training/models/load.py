"""Loads models and tokenizers: from folders, .gguf files or the hub.

Pickled weights are never loaded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from training.config import is_gguf
from training.errors import ConfigError, ModelError, first_line
from training.fast import hold_narrow
from training.models.copies import without_dropout

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


def load_causal_lm(model: str, device: str = "auto", *, frozen: bool = False) -> Any:
    """Load a causal language model of any architecture, without dropout.

    Its weights come in float32. On a GPU, a model that stays `frozen` holds the weights of its linear layers as
    bfloat16 if that is what they were published in; whoever trains layers of it makes float32 copies of them.

    Args:
        model: a folder, a .gguf file, or a name on the Hugging Face hub.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        frozen: whether none of its weights will be trained in place.

    Returns:
        A transformers PreTrainedModel.

    Raises:
        ModelError: it is missing, damaged, or not in safetensors.
    """
    target = pick_device(device)
    _refuse_pickles(model)
    transformers_logging.disable_progress_bar()  # it would garble the bars and lines of whoever loads
    with _readable(model, "the model can't be loaded", "a folder with config.json and model.safetensors"):
        if is_gguf(model):
            loaded = _read_gguf(Path(model).expanduser())
        else:
            loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=torch.float32)
    without_dropout(loaded)
    if frozen and target.type == "cuda":
        hold_narrow(loaded)  # before it is moved, so that the GPU never holds more
    return loaded.to(target)


def load_tokenizer(model: str) -> Any:
    """Load a model's tokenizer.

    Raises:
        ModelError: it is missing or damaged.
    """
    with _readable(model, "the tokenizer can't be loaded", "a folder with tokenizer.json"):
        if not is_gguf(model):
            return AutoTokenizer.from_pretrained(model)
        path = _existing(Path(model).expanduser())
        return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


def end_ids_of(model: str) -> tuple[int, ...]:
    """The tokens that end a text as the model's generation_config.json lists them; none if there is no such file."""
    if is_gguf(model):
        return ()
    try:
        found = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (int(found),)


@contextmanager
def _readable(model: str, what: str, folder: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if not is_gguf(model):
            raise _cannot(model, what, folder, error) from error
        raise ModelError(
            "reading a .gguf file takes the package gguf", got=model, remedy="Install it: pip install 'rankloop[real]'"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise _cannot(model, what, folder, error) from error
    except Exception as error:
        if not is_gguf(model):
            raise
        raise _cannot(model, what, folder, error) from error  # a damaged file fails anywhere in the reader


def _cannot(model: str, what: str, folder: str, error: Exception) -> ModelError:
    expected = "an intact .gguf file of a known architecture" if is_gguf(model) else folder
    return ModelError(
        what,
        got=model,
        expected=f"{expected}, or a name on the Hugging Face hub",
        remedy=f"Check the path, the name and the network. ({first_line(error)})",
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def _read_gguf(path: Path) -> Any:
    """A model with full weights from a .gguf file; if it went on saying that it is quantized, it couldn't be saved."""
    folder = str(_existing(path).parent)
    with redirect_stderr(io.StringIO()):  # a bar that transformers has no switch for
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32)
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.hf_quantizer = None
    return model


def _refuse_pickles(model: str) -> None:
    folder = Path(model)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            "the model's weights are pickled, and a pickle can run any code when it is loaded",
            got=f"{folder / pickles[0]}",
            expected="model.safetensors",
            remedy="Get the model in safetensors, or convert it where you trust it: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder).",
        )
