"""The model hosted by label-studio-ml 2.x, where that is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry

from ml_backend.http.label_studio_ml import hosted_model
from ml_backend.serving.proposer import Proposer
from training.errors import ConfigError

LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt"><Choice value="1" alias="answer1"/><Choice value="2" alias="answer2"/></Choices>
</View>"""

needs_label_studio_ml = pytest.mark.skipif(
    importlib.util.find_spec("label_studio_ml") is None,
    reason="label-studio-ml 2.x isn't installed (no release on the index works; see the label-studio-ml extra)",
)
# Its api module warns about its own use of pydantic and SQLite, which isn't ours to fix.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def client(settings: Any, proposer: Proposer, jobs: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of label-studio-ml's own app around our model; its version cache is in a temporary folder."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "label_studio_ml"]:
        monkeypatch.delitem(sys.modules, name)
    assert proposer.wait_until_loaded(30)
    model_class = hosted_model(settings, proposer, jobs)
    from label_studio_ml.api import init_app

    return init_app(model_class).test_client()


@needs_label_studio_ml
def test_it_speaks_the_same_protocol_there(client: Any, jobs: FakeJobs) -> None:
    """Health, setup, predict and webhook answer as they do on our own server."""
    assert client.get("/health").json["status"] == "UP"
    setup = {"project": "1.1795380917", "schema": LIVE, "hostname": "x", "access_token": "x", "extra_params": None}
    assert client.post("/setup", json=setup).json == {"model_version": "rankloop.project-1-v1"}
    tasks = [{"id": 1, "data": {"prompt": "Tea?"}, "project": 1}, {"id": 2, "data": {}, "project": 1}]
    params = {"login": None, "password": None, "context": None}
    body = {"tasks": tasks, "project": "1.1795380917", "label_config": LIVE, "params": params}
    results = client.post("/predict", json=body).json["results"]
    assert [len(result["result"]) for result in results] == [2, 0]
    assert {result["model_version"] for result in results} == {"rankloop.project-1-v1"}
    project = {"id": 1, "label_config": LIVE}
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert answer.json["result"]["job"] == "cycle-1"
    client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": project, "annotation": {}, "task": {}})
    assert jobs.calls == [("train", 1), ("judgement", 1)]


@needs_label_studio_ml
def test_it_follows_the_champion_there(client: Any, proposer: Proposer, registry: FakeRegistry) -> None:
    """A new champion shows up in /setup despite label-studio-ml's own cache of the version."""
    setup = {"project": "1.2", "schema": LIVE, "extra_params": None}
    assert client.post("/setup", json=setup).json == {"model_version": "rankloop.project-1-v1"}
    registry.promote("rankloop.project-1-v2")
    while proposer.version != "rankloop.project-1-v2":
        with proposer._changed:
            proposer._changed.wait(0.05)
    assert client.post("/setup", json=setup).json == {"model_version": "rankloop.project-1-v2"}


def test_without_the_package_the_error_says_how_to_get_it(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing our module needs nothing; hosting a model needs label-studio-ml, and the error says where to get it."""
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", None)
    with pytest.raises(ConfigError, match=r"github\.com/HumanSignal/label-studio-ml-backend"):
        hosted_model(settings)
