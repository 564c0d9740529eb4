"""The labeling pages with a chat model's long answers: on a phone, on a desktop, and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from labeling_page import chromium_page
from playwright.sync_api import Page

from ml_backend.label_studio import LabelStudio
from ml_backend.labels import live_prediction, parse_label_config

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CONFIGS = {"live": "label_config.xml", "pairwise": "label_configs/pairwise.xml", "ranker": "label_configs/ranker.xml"}
CODE = "Count them:\n\n```python\ndef count(path):\n    for line in path:\n        yield line\n```\n\n1. One.\n2. Two."
LONG = f"{CODE}\n\n" + "It depends on what you want to do with the answer. " * 45 + "https://example.com/" + "a" * 200
TEXTS = {
    "live": '[data-testid="htx-textbox-content"] p',
    "pairwise": ".rl-card [data-needs-update]",
    "ranker": ".htx-ranker-item p",
}
"""Where each kind's first answer stands."""
PHONE = (390, 844)


@dataclass(frozen=True)
class Projects:
    """One project of each kind, with one task of long answers."""

    server: LabelStudioServer
    ids: dict[str, int]


@pytest.fixture(scope="module")
def projects(label_studio_server: LabelStudioServer) -> Projects:
    """Projects without a backend: the live one's answers are an imported prediction."""
    server, ids = label_studio_server, {}
    headers = {"Authorization": f"Token {server.token}"}
    with LabelStudio(server.url, server.token) as label_studio, httpx.Client(headers=headers, timeout=60) as client:
        for kind, file in CONFIGS.items():
            xml = (ROOT / file).read_text(encoding="utf-8")
            project = label_studio.ensure_project(f"long answers, {kind}", xml).id
            (task,) = label_studio.import_tasks(project, [{"prompt": "How?\nAnd why?", **_answers(kind)}])
            if kind == "live":
                prediction = live_prediction(parse_label_config(xml), LONG, CODE, "rankloop-v1")
                client.post(f"{server.url}/api/predictions/", json={**prediction, "task": task}).raise_for_status()
                client.patch(f"{server.url}/api/projects/{project}", json={"model_version": "rankloop-v1"})
            ids[kind] = project
    return Projects(server, ids)


def _answers(kind: str) -> dict[str, Any]:
    if kind == "pairwise":
        return {"answer1": LONG, "answer2": CODE}
    items = [{"id": f"i{n}", "title": f"Answer {n}", "body": body} for n, body in enumerate((LONG, CODE, "No."))]
    return {"items": items} if kind == "ranker" else {}


@pytest.fixture(params=["phone", "desktop", "dark"])
def page(request: pytest.FixtureRequest, projects: Projects) -> Iterator[Page]:
    """A logged-in browser; Label Studio remembers the theme in the browser's storage."""
    with chromium_page(*(PHONE if request.param == "phone" else (1400, 900))) as page:
        if request.param == "dark":
            page.add_init_script("localStorage.setItem('preferred-color-scheme', 'dark')")
        page.goto(f"{projects.server.url}/user/login/")
        page.fill("input[name=email]", projects.server.username)
        page.fill("input[name=password]", projects.server.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda address: "login" not in address)
        yield page


@pytest.mark.parametrize("kind", CONFIGS)
def test_long_answers_are_readable_and_submit_is_in_reach(page: Page, projects: Projects, kind: str) -> None:
    """Line breaks and indentation are kept, nothing is wider than its screen, Submit is on it, the verdict leaves the
    answers most of the height, text and ground contrast, and no version is named anywhere.
    """
    page.goto(f"{projects.server.url}/projects/{projects.ids[kind]}/data?labeling=1")
    text = page.locator(f".rankloop {TEXTS[kind]}").first
    text.wait_for()
    page.get_by_text("def count(path):").first.wait_for()
    assert "def count(path):\n    for line in path:\n        yield line" in text.inner_text().replace("\u00a0", " ")
    sizes = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth, innerHeight]")
    width, height = sizes[1:]
    assert sizes[0] <= width
    assert text.evaluate("element => element.scrollWidth <= element.clientWidth + 1")
    submit = page.get_by_role("button", name="submit", exact=False).first.bounding_box()
    assert submit is not None
    assert submit["x"] >= 0
    assert submit["x"] + submit["width"] <= width
    assert submit["y"] + submit["height"] <= height
    if kind == "live":
        verdict = page.locator(".rl-verdict").bounding_box()
        assert verdict is not None
        assert verdict["height"] <= 0.2 * height
    light, ground = text.evaluate(_COLORS)
    assert abs(_brightness(light) - _brightness(ground)) > 125  # of 255: WCAG's old rule of thumb
    assert "rankloop-v" not in page.locator("body").inner_text()


_COLORS = """element => {
  let ground = element;
  while (ground && /rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor))
    ground = ground.parentElement;
  return [getComputedStyle(element).color, ground ? getComputedStyle(ground).backgroundColor : 'rgb(255, 255, 255)'];
}"""


def _brightness(color: str) -> float:
    red, green, blue = (float(part) for part in color[color.index("(") + 1 : -1].split(",")[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue
