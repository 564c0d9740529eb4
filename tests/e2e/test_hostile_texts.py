"""Prompts and answers that contain scripts stay text on Label Studio's page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from labeling_page import PATIENCE_MS, LabelingPage, chromium_page
from playwright.sync_api import expect

from ml_backend.label_studio.client import LabelStudio
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction, pairwise_prediction, ranker_prediction

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
VERSION = "rankloop-v1"


def _hostile(where: str) -> str:
    """A text that would leave a mark on the window if any part of it were interpreted as markup."""
    tell = f"window.owned='{where}'"
    return (
        f'{where}-text <script>{tell}</script><img src=x onerror="{tell}"><svg onload="{tell}"></svg><b>{where}-end</b>'
    )


@pytest.fixture(scope="module")
def label_studio(label_studio_server: LabelStudioServer) -> Iterator[LabelStudio]:
    """A client."""
    with LabelStudio(label_studio_server.url, label_studio_server.token) as client:
        yield client


@pytest.fixture(scope="module")
def labeling(label_studio_server: LabelStudioServer) -> Iterator[LabelingPage]:
    """A logged-in user's page."""
    with chromium_page() as page:
        person = LabelingPage(page, label_studio_server.url)
        person.log_in(label_studio_server.username, label_studio_server.password)
        yield person


def _data(kind: str) -> dict[str, Any]:
    """A task's data with hostile texts wherever text can occur."""
    first, second, prompt = (_hostile(where) for where in ("first", "second", "prompt"))
    if kind == "live":
        return {"prompt": prompt}
    if kind == "pairwise":
        return {"prompt": prompt, "answer1": first, "answer2": second}
    items = [{"id": "a", "title": "", "body": first}, {"id": "b", "title": "", "body": second}]
    return {"prompt": prompt, "items": items}


def _prediction(kind: str, xml: str) -> dict[str, Any]:
    """The backend's prediction for that task."""
    config = parse_label_config(xml)
    if kind == "live":
        return live_prediction(config, _hostile("first"), _hostile("second"), VERSION)
    if kind == "pairwise":
        return pairwise_prediction(config, "left", 0.9, VERSION)
    return ranker_prediction(config, ["b", "a"], 0.9, VERSION)


@pytest.mark.parametrize(
    ("kind", "file"),
    [("live", "label_config.xml"), ("pairwise", "label_configs/pairwise.xml"), ("ranker", "label_configs/ranker.xml")],
)
def test_scripts_in_texts_stay_text(label_studio: LabelStudio, labeling: LabelingPage, kind: str, file: str) -> None:
    """Every character of prompt and answers is displayed, and none of it runs or becomes an element."""
    xml = (ROOT / file).read_text(encoding="utf-8")
    project = label_studio.create_project(f"hostile {kind}", xml)
    try:
        (task,) = label_studio.import_tasks(project.id, [_data(kind)])
        label_studio.replace_predictions(project.id, [{**_prediction(kind, xml), "task": task}])
        page = labeling.page
        page.goto(f"{label_studio.url}/projects/{project.id}/data?task={task}")
        for where in ("prompt", "first", "second"):
            # Label Studio may build its page a second time, so an element can disappear for a moment.
            shown = re.compile(re.escape(f"<script>window.owned='{where}'</script>") + f".*{where}-end", re.DOTALL)
            expect(page.locator("body")).to_contain_text(shown, use_inner_text=True, timeout=PATIENCE_MS)
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src='x'], svg[onload]").count() == 0
    finally:
        label_studio._sdk.projects.delete(project.id)
