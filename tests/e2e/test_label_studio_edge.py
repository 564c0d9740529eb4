"""The Label Studio edge against a real server: projects, tasks, predictions, annotations, backend, webhook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from recording_backend import RecordingBackend

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress, choose_project, connect_backend, secure_webhook
from ml_backend.label_studio.credentials import SECRET_HEADER, Guard
from ml_backend.label_studio.records import Project
from ml_backend.label_studio.setup import init_project
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction
from ml_backend.loop.dataset import export_preferences
from training.data.files import read_preferences
from training.data.prompt_sources import PromptSource

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIVE = (Path(__file__).parents[2] / "label_config.xml").read_text(encoding="utf-8")
CONFIG = parse_label_config(LIVE)


@pytest.fixture
def label_studio(label_studio_server: LabelStudioServer) -> Iterator[LabelStudio]:
    """A client with the legacy token."""
    with LabelStudio(label_studio_server.url, label_studio_server.token) as client:
        yield client


@pytest.fixture
def project(label_studio: LabelStudio, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project of live pairs, deleted after the test."""
    made = label_studio.create_project(request.node.name[:50], LIVE)
    yield made
    label_studio._sdk.projects.delete(made.id)


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    """A backend to connect."""
    with RecordingBackend() as running:
        yield running


def _prediction(task_id: int, version: str) -> dict[str, Any]:
    return {"task": task_id, **live_prediction(CONFIG, f"{version} one", f"{version} two", version)}


def _verdict(choice: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "verdict", "to_name": "prompt", "value": {"choices": [choice]}}


def _personal_access_token(label_studio_server: LabelStudioServer) -> str:
    """A personal access token from the account page."""
    with httpx.Client(base_url=label_studio_server.url, timeout=30) as browser:
        page = browser.get("/user/login/").text
        found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found
        form = {
            "csrfmiddlewaretoken": found.group(1),
            "email": label_studio_server.username,
            "password": label_studio_server.password,
        }
        browser.post("/user/login/", data=form)
        made = browser.post("/api/token/", headers={"X-CSRFToken": browser.cookies["csrftoken"]})
        return str(made.json()["token"])


def test_both_kinds_of_key_get_in(label_studio_server: LabelStudioServer) -> None:
    """A legacy token and a personal access token belong to the same person."""
    for key in (label_studio_server.token, _personal_access_token(label_studio_server)):
        with LabelStudio(label_studio_server.url, key) as client:
            assert client.release().startswith("1.")
            assert client.whoami() == label_studio_server.username


def test_refusals_carry_their_status_and_remedy(
    label_studio_server: LabelStudioServer, label_studio: LabelStudio
) -> None:
    """A wrong key is a 401 and a missing project a 404, each with a remedy."""
    with (
        LabelStudio(label_studio_server.url, "0" * 40) as stranger,
        pytest.raises(LabelStudioError, match="API_KEY") as caught,
    ):
        stranger.whoami()
    assert caught.value.status == 401
    with pytest.raises(LabelStudioError, match="Check the id") as caught:
        label_studio.project(999_999)
    assert caught.value.status == 404


def test_new_predictions_come_in_without_breaking_an_open_page(label_studio: LabelStudio, project: Project) -> None:
    """Someone still looking at the old pair can submit it, however long it takes them."""
    ids = label_studio.import_tasks(project.id, [{"prompt": f"question {n}"} for n in range(4)])
    assert [task["id"] for task in label_studio.tasks_to_propose(project.id, "m-v1")] == ids
    assert label_studio.replace_predictions(project.id, [_prediction(n, "m-v1") for n in ids]) == 4
    assert label_studio.replace_predictions(project.id, [_prediction(n, "m-v1") for n in ids]) == 0
    assert label_studio.tasks_to_propose(project.id, "m-v1") == []

    shown = label_studio.open_tasks(project.id, predictions=True)[0]["predictions"][0]
    label_studio.skip(ids[1])
    assert label_studio.replace_predictions(project.id, [_prediction(n, "m-v10") for n in ids]) == 3
    result = [*shown["result"], _verdict("answer2")]
    label_studio.annotate(ids[0], result, lead_time=4.5, parent_prediction=shown["id"])

    assert label_studio.tasks_to_propose(project.id, "m-v1") == []
    assert label_studio.predictions_by_version(project.id) == {"m-v1": 4, "m-v10": 3}


def test_what_was_judged_comes_out_as_it_was(label_studio: LabelStudio, project: Project, tmp_path: Path) -> None:
    """Texts, verdict, version and skip of real annotations arrive in the preferences."""
    ids = label_studio.import_tasks(project.id, [{"prompt": f"question {n}"} for n in range(3)])
    label_studio.replace_predictions(project.id, [_prediction(n, "m-v1") for n in ids])
    for task, choice in zip(
        label_studio.open_tasks(project.id, predictions=True), ("answer2", "tie", None), strict=True
    ):
        pair = task["predictions"][0]
        if choice is None:
            label_studio.skip(task["id"], parent_prediction=pair["id"])
        else:
            label_studio.annotate(task["id"], [*pair["result"], _verdict(choice)], parent_prediction=pair["id"])

    tasks = label_studio.export_tasks(project.id)
    assert [prediction["model_version"] for prediction in tasks[0]["predictions"]] == ["m-v1"]
    summary = export_preferences(tasks, tmp_path / "out.jsonl", CONFIG, project.id)
    assert (summary.annotations, summary.kept, summary.ties, summary.skipped) == (3, 2, 1, 1)
    first = read_preferences(tmp_path / "out.jsonl")[0]
    assert (first.prompt, first.chosen, first.rejected) == ("question 0", "m-v1 two", "m-v1 one")
    assert first.source.chosen_version == "m-v1"

    times = sorted(annotation["updated_at"] for task in tasks for annotation in task["annotations"])
    assert label_studio.count_judgements_since(project.id, None) == 2
    assert label_studio.count_judgements_since(project.id, times[0]) == 1
    assert label_studio.count_judgements_since(project.id, times[-1]) == 0


def test_connecting_twice_leaves_one_backend_and_one_secured_webhook(
    label_studio: LabelStudio, project: Project, backend: RecordingBackend
) -> None:
    """Setup can be repeated; annotations and Start Training then arrive with the credentials."""
    address = BackendAddress(backend.url, "m", Guard(("ada", "pass"), "secret"))
    label_studio.add_backend(project.id, backend.url, "somebody's own try", None)
    label_studio.add_webhook(project.id, f"{backend.url}/webhook", {})
    for _ in range(2):
        assert connect_backend(label_studio, project.id, address).connected
        secure_webhook(label_studio, project.id, address)
    assert [row.title for row in label_studio.backends(project.id)] == ["m"]
    assert len(label_studio.webhooks(project.id)) == 1
    assert choose_project(label_studio, f"{backend.url}/", "m").id == project.id

    task_id = label_studio.import_tasks(project.id, [{"prompt": "tea?"}])[0]
    label_studio.annotate(task_id, [_verdict("tie")])
    headers, body = backend.webhook("ANNOTATION_CREATED")
    assert headers[SECRET_HEADER] == "secret"
    assert "Authorization" not in headers
    assert body["task"]["id"] == task_id

    label_studio._sdk.ml.train(label_studio.backends(project.id)[0].id)
    assert backend.webhook("START_TRAINING")[1]["project"]["id"] == project.id


def test_a_webhook_that_was_deleted_is_made_again(
    label_studio: LabelStudio, project: Project, backend: RecordingBackend
) -> None:
    """A deleted webhook is created again, since without it every judgement would be lost silently."""
    address = BackendAddress(backend.url, "m", Guard())
    connect_backend(label_studio, project.id, address)
    for webhook in label_studio.webhooks(project.id):
        label_studio.remove_webhook(webhook.id)
    made = secure_webhook(label_studio, project.id, address)
    assert [webhook.id for webhook in label_studio.webhooks(project.id)] == [made.id]


def test_a_backend_that_does_not_answer_is_not_left_behind(label_studio: LabelStudio, project: Project) -> None:
    """A refused connection is an error with a remedy, and leaves no dead backend behind."""
    with pytest.raises(LabelStudioError, match="rankloop up"):
        connect_backend(label_studio, project.id, BackendAddress("http://localhost:1", "m", Guard()))
    assert label_studio.backends(project.id) == []


def test_init_project_can_be_repeated(label_studio: LabelStudio, backend: RecordingBackend, tmp_path: Path) -> None:
    """The second time the project is adopted, and only prompts it doesn't have are imported."""
    address = BackendAddress(backend.url, "m", Guard(secret="s"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What is tea?\nWhat is  tea?\nHow do I boil an egg?\n", encoding="utf-8")
    source = PromptSource(str(prompts))
    first = init_project(label_studio, address, title="Kitchen", label_config=LIVE, prompts=source)
    assert (first.kind, first.imported, first.already_there) == ("live", 2, 1)
    assert first.project.model_version == "m"
    with prompts.open("a", encoding="utf-8") as file:
        file.write("Why is the sky blue?\n")
    second = init_project(label_studio, address, title="Kitchen", prompts=source)
    assert (second.project.id, second.imported, second.already_there) == (first.project.id, 1, 3)
    label_studio._sdk.projects.delete(first.project.id)
