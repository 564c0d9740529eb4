"""Whatever tasks /predict gets, Label Studio can show the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from ml_backend.http.app import create_app
from ml_backend.serving.proposer import Proposer
from ml_backend.settings import load_settings

ROOT = Path(__file__).parents[4]
CONFIGS = [ROOT / "label_config.xml", ROOT / "label_configs" / "pairwise.xml", ROOT / "label_configs" / "ranker.xml"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(min_size=1, max_size=30)
items = st.lists(st.fixed_dictionaries({"id": st.sampled_from(["a", "b", "c"]) | anything, "body": texts | anything}))
data = st.fixed_dictionaries(
    {},
    optional={
        "prompt": texts | anything,
        "answer1": texts | anything,
        "answer2": texts | anything,
        "items": items | anything,
    },
)
tasks = st.lists(
    st.fixed_dictionaries({}, optional={"id": st.integers() | anything, "data": data | anything, "project": anything}),
    max_size=4,
)


@pytest.fixture(scope="module")
def client(tiny_model_dir: Path, version_folders: dict[str, Path], tmp_path_factory: Any) -> Iterator[FlaskClient]:
    """A client of an app whose champion has a reward model."""
    chosen = load_settings(
        data_dir=tmp_path_factory.mktemp("any-task"), model=str(tiny_model_dir), device="cpu", max_new_tokens=3
    )
    registry = FakeRegistry(version_folders)
    registry.promote("rankloop-v2")
    proposer = Proposer(registry, chosen)  # type: ignore[arg-type]  # a fake of our own edge
    proposer.start()
    assert proposer.wait_until_loaded(60)
    yield create_app(chosen, proposer, FakeJobs(), registry).test_client()  # type: ignore[arg-type]
    proposer.stop()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_any_tasks_get_a_prediction_that_can_be_shown(client: FlaskClient, config: Path) -> None:
    """One prediction per task; each is empty, or valid by Label Studio's own check against the configuration."""
    xml = config.read_text(encoding="utf-8")
    checker = LabelInterface(xml)

    @given(tasks)
    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def check(found: list[Any]) -> None:
        answer = client.post("/predict", json={"tasks": found, "label_config": xml, "project": "1.5"})
        assert answer.status_code == 200, answer.text
        assert len(answer.json["results"]) == len(found)
        for prediction in answer.json["results"]:
            assert isinstance(prediction["model_version"], str)
            assert math.isfinite(prediction["score"])
            assert "\\u0000" not in json.dumps(prediction["result"])
            if prediction["result"]:
                assert checker.validate_prediction(prediction, return_errors=True) == []

    check()
