"""Shared fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from hypothesis import settings as hypothesis_settings

# The same examples in every run: a new finding belongs in a test of its own, not in someone else's build.
hypothesis_settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis_settings.load_profile("same")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random GPT-2 (3 layers, 32 wide) and a byte-level BPE with an end token and a pad token."""
    from tiny_models import write_tiny_gpt2

    folder = tmp_path_factory.mktemp("tiny-gpt2")
    write_tiny_gpt2(folder)
    return folder


@pytest.fixture(scope="session")
def version_folders(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifacts of three versions: the base, and two with other weights and a reward model whose head is random."""
    import torch
    from transformers import AutoModelForCausalLM

    from training.models.load import load_causal_lm
    from training.models.reward import RewardModel

    home = tmp_path_factory.mktemp("versions")
    folders = {f"rankloop-v{number}": home / f"v{number}" for number in (1, 2, 3)}
    for number, folder in enumerate(folders.values(), start=1):
        shutil.copytree(tiny_model_dir, folder / "policy")
        if number == 1:
            continue
        torch.manual_seed(number)
        policy = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
        torch.nn.init.normal_(policy.transformer.ln_f.weight, mean=2.0, std=1.0)
        policy.save_pretrained(folder / "policy")
        reward = RewardModel.on_base(load_causal_lm(str(tiny_model_dir), "cpu"), 0.7)
        torch.nn.init.normal_(reward.head.weight)
        reward.save(folder / "reward")
    return folders


@pytest.fixture
def registry(version_folders: dict[str, Path]) -> FakeRegistry:
    """A registry of those versions, with no champion yet."""
    return FakeRegistry(version_folders)


@pytest.fixture
def jobs() -> FakeJobs:
    """A job queue that records requests."""
    return FakeJobs()


@pytest.fixture
def settings(tiny_model_dir: Path, tmp_path: Path) -> Any:
    """Settings on a temporary folder, with short answers and fast polling for new champions."""
    from ml_backend.settings import load_settings

    return load_settings(
        data_dir=tmp_path, model=str(tiny_model_dir), device="cpu", max_new_tokens=12, champion_poll_s=0.02
    )


@pytest.fixture
def proposer(registry: FakeRegistry, settings: Any) -> Iterator[Any]:
    """A started proposer; its first version may still be loading."""
    from ml_backend.serving.proposer import Proposer

    proposer = Proposer(registry, settings)  # type: ignore[arg-type]  # a fake of our own edge
    proposer.start()
    yield proposer
    proposer.stop()


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with only MLflow's tables, whose creation takes seconds."""
    from ml_backend.registry.registry import Registry
    from ml_backend.settings import load_settings

    home = tmp_path_factory.mktemp("mlflow")
    Registry(load_settings(data_dir=home, model_name="unused")).versions()
    return home / "mlflow.db"


@pytest.fixture
def mlflow_settings(settings: Any, mlflow_tables: Path) -> Any:
    """Settings on a temporary folder in which MLflow's tables already exist."""
    shutil.copy(mlflow_tables, settings.home() / "mlflow.db")
    return settings
