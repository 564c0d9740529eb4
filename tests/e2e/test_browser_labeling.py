"""A person labels live pairs in a real browser, and their judgements arrive in the training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from labeling_page import LabelingPage, chromium_page
from playwright.sync_api import expect

from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.setup import init_project
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.judgements import ConversionSummary, judgements_from_export
from ml_backend.processes.children import Children, rankloop_command
from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import free_port
from ml_backend.settings import load_settings
from training.data.files import read_preferences, write_preferences
from training.data.types import Demonstration, Judgement, Preference, Verdict
from training.data.votes import aggregate, demonstrations_from

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIVE = (Path(__file__).parents[2] / "label_config.xml").read_text(encoding="utf-8")
PROMPTS = [f"What is the best way to {task}?" for task in ("cook rice", "make coffee", "paint a wall", "sleep well")]
USER, PASSWORD = "backend", "a backend's password"


@dataclass(frozen=True)
class Site:
    """A labeling page for a project whose answers our backend proposes."""

    labeling: LabelingPage
    label_studio: LabelStudio
    project_id: int
    tasks: list[int]

    def judgements(self, task_id: int) -> tuple[list[Judgement], ConversionSummary]:
        """A task from Label Studio's own export, converted."""
        tasks = [task for task in self.label_studio.export_tasks(self.project_id) if task["id"] == task_id]
        return judgements_from_export(tasks, parse_label_config(LIVE), self.project_id)

    def annotations(self, task_id: int) -> int:
        """How many annotations a task has."""
        exported = self.label_studio.export_tasks(self.project_id)
        return sum(len(task["annotations"]) for task in exported if task["id"] == task_id)


@pytest.fixture(scope="module")
def backend(
    label_studio_server: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendAddress]:
    """The backend as `rankloop serve` runs it, with the demo model, once it has loaded the base version."""
    home = tmp_path_factory.mktemp("backend")
    port = free_port()
    environment = {
        "RANKLOOP_DATA_DIR": str(home),
        "RANKLOOP_PORT": str(port),
        "RANKLOOP_DEVICE": "cpu",
        "BASIC_AUTH_USER": USER,
        "BASIC_AUTH_PASS": PASSWORD,
        "LABEL_STUDIO_URL": label_studio_server.url,
        "LABEL_STUDIO_API_KEY": label_studio_server.token,
    }
    settings = load_settings(data_dir=home, port=port, basic_auth_user=USER, basic_auth_pass=PASSWORD)
    address = BackendAddress.from_settings(settings)
    with Children(environment, logs=home) as children:
        children.start("serve", rankloop_command("serve"))
        _wait_until_loaded(address.url, children, home / "serve.log")
        yield address


def _wait_until_loaded(url: str, children: Children, log: Path) -> None:
    """Wait until the backend's status says that the base version is loaded."""
    with httpx.Client(base_url=url, auth=(USER, PASSWORD), timeout=30) as client:
        for _ in range(600):
            try:
                if client.post("/setup", json={}).json().get("model_version") == "rankloop-v1":
                    return
            except httpx.TransportError:
                pass  # it isn't listening yet
            assert children.wait(0.2) is None, log_tail(log, 40)
    pytest.fail(f"the backend didn't load its model in time:\n{log_tail(log, 40)}")


@pytest.fixture(scope="module")
def site(label_studio_server: LabelStudioServer, backend: BackendAddress) -> Iterator[Site]:
    """Logged in, on a connected project whose tasks contain only a prompt."""
    with LabelStudio(label_studio_server.url, label_studio_server.token) as client, chromium_page() as page:
        project_id = init_project(
            client, backend, title="browser labeling", label_config=LIVE, extra_params={"line": "default"}
        ).project.id
        tasks = client.import_tasks(project_id, [{"prompt": prompt} for prompt in PROMPTS])
        labeling = LabelingPage(page, label_studio_server.url)
        labeling.log_in(label_studio_server.username, label_studio_server.password)
        yield Site(labeling, client, project_id, tasks)


def test_a_verdict_by_keyboard_arrives_as_a_preference(site: Site, tmp_path: Path) -> None:
    """Key 2, Ctrl+Enter: prompt, both texts, verdict, annotator and version are in the preferences file."""
    task = site.tasks[0]
    site.labeling.open_task(site.project_id, task)
    assert site.labeling.prompt() == PROMPTS[0]
    first, second = site.labeling.answers()
    assert first != second
    site.labeling.press("2", "Answer 2")
    site.labeling.submit(by_keyboard=True)

    judgements, summary = site.judgements(task)
    assert (summary.annotations, summary.kept, summary.edited) == (1, 1, 0)
    write_preferences(tmp_path / "preferences.jsonl", aggregate(judgements))
    (preference,) = read_preferences(tmp_path / "preferences.jsonl")
    assert preference == Preference(
        prompt=PROMPTS[0],
        chosen=second,
        rejected=first,
        annotators=(judgements[0].annotator,),
        source=preference.source,
    )
    assert preference.source.chosen_version == preference.source.rejected_version == "rankloop-v1"
    assert (preference.source.project_id, preference.source.task_id) == (site.project_id, task)


def test_without_a_verdict_nothing_is_stored(site: Site) -> None:
    """Submitting at once shows what is missing; then a click and the button store a tie."""
    task = site.tasks[1]
    site.labeling.open_task(site.project_id, task)
    page = site.labeling.page
    page.keyboard.press("Control+Enter")
    message = page.get_by_text("Say which answer is better before you submit")
    expect(message).to_be_visible()
    page.get_by_role("button", name="OK").click()
    expect(message).to_be_hidden()
    assert site.annotations(task) == 0

    site.labeling.choice("About the same").locator("xpath=ancestor::label").click()
    site.labeling.submit(by_keyboard=False)
    judgements, summary = site.judgements(task)
    assert [judgement.verdict for judgement in judgements] == [Verdict.TIE]
    assert summary.ties == 1


def test_a_rewritten_answer_arrives_as_rewritten(site: Site) -> None:
    """The pencil, a better text, key 1: the data has the judged text, the proposed one, and a demonstration."""
    task = site.tasks[2]
    site.labeling.open_task(site.project_id, task)
    proposed, other = site.labeling.answers()
    better = "Wash the wall first.\nThen put on two thin coats."
    site.labeling.rewrite(1, better)
    site.labeling.press("1", "Answer 1")
    site.labeling.submit(by_keyboard=True)

    judgements, summary = site.judgements(task)
    assert summary.edited == 1
    (judgement,) = judgements
    assert (judgement.answer1.text, judgement.answer1.proposed) == (better, proposed)
    assert (judgement.answer2.text, judgement.answer2.proposed) == (other, None)
    assert judgement.answer1.model_version == judgement.answer2.model_version == "rankloop-v1"
    assert demonstrations_from(judgements) == [Demonstration(PROMPTS[2], better)]


def test_the_label_stream_brings_the_next_pair(site: Site) -> None:
    """Label All Tasks opens the remaining tasks with answers filled in; Skip is counted as a skip, not as a verdict."""
    page = site.labeling.page
    page.goto(f"{site.label_studio.url}/projects/{site.project_id}/data?labeling=1")
    site.labeling.wait_for_answers()
    assert site.labeling.prompt() == PROMPTS[3]
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.request.method == "POST"):
        page.get_by_role("button", name="skip").click()
    judgements, summary = site.judgements(site.tasks[3])
    assert judgements == []
    assert (summary.annotations, summary.skipped) == (1, 1)
