"""Fixtures of the tests against real servers. Every process they start is stopped by its id."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from training.config import CycleConfig

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer
    from ml_backend.demo.stack import DemoStack


@pytest.fixture(scope="session")
def label_studio_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a Label Studio that was started once: creating its tables takes half a minute or more."""
    from ml_backend.demo.label_studio_server import LabelStudioServer

    folder = tmp_path_factory.mktemp("label-studio-template")
    with LabelStudioServer(folder):
        return folder


@pytest.fixture(scope="session")
def label_studio_server(
    label_studio_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """A real Label Studio with its own data folder, shared by all tests."""
    from ml_backend.demo.label_studio_server import LabelStudioServer

    folder = tmp_path_factory.mktemp("label-studio") / "data"
    shutil.copytree(label_studio_template, folder)
    with LabelStudioServer(folder) as running:
        yield running


@pytest.fixture(scope="session")
def quick_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training settings under which a cycle of the demo model takes seconds, and whose gates pass everything."""
    demo = CycleConfig.for_model("ml_backend/demo/data/model").model_dump()
    demo["reward"] |= {"epochs": 2}
    demo["ppo"] |= {"iterations": 3, "prompts_per_iteration": 8, "minibatch_size": 8, "epochs": 1}
    demo["ppo"] |= {"evaluation_answers": 1, "best_of": 2, "origin_answers": 2}
    demo["gates"] |= {"min_preferences": 5, "min_reward_accuracy": 0.0, "min_win_rate": 0.0}
    path = tmp_path_factory.mktemp("training") / "quick.json"
    CycleConfig.model_validate(demo).save(path)
    return path


@pytest.fixture
def stack(label_studio_template: Path, quick_training: Path, tmp_path: Path) -> Iterator[DemoStack]:
    """A running private Label Studio, server and worker, which train in seconds after 30 judgements."""
    from ml_backend.demo.stack import DemoStack

    folder = tmp_path / "stack"
    shutil.copytree(label_studio_template, folder / "label-studio")
    running = DemoStack(folder, train_after=30, training_config=quick_training)
    try:
        running.start()
        running.wait_until_up()
        yield running
    finally:
        running.stop()
