"""The page in a real browser: on a desktop, on a phone and in the dark, by keyboard, and for everybody (axe-core)."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_label_studio import fake_label_studio
from labeling_page import CHROMIUM_ARGS
from page_fakes import CONTEST, HOSTILE, LEADERBOARD, PEOPLE, RUNNING, PageJobs, PageRegistry, point, report, version
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from werkzeug.serving import make_server

from ml_backend.http.app import create_app
from ml_backend.processes.ports import free_port
from ml_backend.settings import load_settings
from training.evaluation import Example

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AXE = sorted((Path(__file__).parents[2] / ".axe").glob("axe-*.js"))
LOGIN = {"username": "ann", "password": "secret"}
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "dark phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "color_scheme": "dark"},
}
PAGES = {
    "loop": "/",
    "line": "/lines/eggs",
    "other line": "/lines/poems",
    "version": "/versions/rankloop.eggs-v3",
    "base": "/versions/rankloop.eggs-v1",
    "question": "/versions/rankloop.eggs-v3/promote",
    "nothing": "/lines/none",
}
LONG = """First, bring the water to a boil in a small pan, with enough of it to cover the egg.

- Take the egg out of the fridge some minutes before, so that it doesn't crack.
- Lower it in gently with a spoon.
- Wait six minutes for a soft yolk, eight for a firmer one, ten for a hard one.

Then hold it under cold water for a moment, which stops it from cooking on and makes it easier to peel."""
ANSWERS = [
    Example("How do I boil an egg?", "Boil it.", LONG, "Six minutes, then cold water.", -0.51, 0.22, 1.47),
    Example("How do I sew on a button?", HOSTILE, "With a needle.", "With thread, four stitches.", 0.1, 0.3, 0.9),
    *(Example(f"Question {n}?", "One.", "Two.", "Three.", 0.1, 0.2, 0.3) for n in range(10)),
]  # fmt: skip


@dataclass(frozen=True)
class Site:
    """The page's address and what is behind it."""

    url: str
    registry: PageRegistry
    jobs: PageJobs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a busy line and one that has just begun."""
    registry, jobs = PageRegistry(), PageJobs()
    registry.said["eggs"] = {"people": PEOPLE, "contest": CONTEST, "leaderboard": LEADERBOARD}
    registry.challenge("eggs", 3)
    learned = report(*ANSWERS)
    learned["ppo"]["curve"] = [
        {name: getattr(point(n, 1 - 0.9**n, 0.04 * n), name) for name in point(1, 0, 0).__slots__} for n in range(1, 40)
    ]
    registry.reports["rankloop.eggs-v3"] = learned
    registry.known["poems"] = [version(1, line="poems")]
    registry.crowned["poems"] = ["rankloop.poems-v1"]
    registry.tried["poems"] = []
    port = free_port()
    with fake_label_studio() as label_studio:
        project = {"id": 7, "title": "Eggs", "label_config": "<View/>", "model_version": "rankloop"}
        label_studio.on("GET /api/projects/", (200, {"count": 1, "results": [project]}))
        label_studio.on("GET /api/webhooks/", (200, []))
        backend = {"id": 1, "project": 7, "url": f"http://localhost:{port}", "extra_params": {"line": "eggs"}}
        label_studio.on("GET /api/ml/", (200, [backend]))
        settings = load_settings(
            data_dir=tmp_path_factory.mktemp("page"), port=port, basic_auth_user="ann", basic_auth_pass="secret",
            mlflow_tracking_uri="http://localhost:5000", label_studio_url=label_studio.url,
            label_studio_api_key="0" * 40,
        )  # fmt: skip
        proposer = SimpleNamespace(loaded=lambda: {"eggs": "rankloop.eggs-v2"}, fault=None, waiting=0, version=None)
        app = create_app(settings, proposer, jobs, registry)  # type: ignore[arg-type]  # fakes of our edges
        server = make_server("127.0.0.1", port, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(f"http://127.0.0.1:{port}", registry, jobs)
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, whichever is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    assert executable, "this test needs Chromium; `make browser` installs it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens a page of the site in a window of its own; whatever the browser complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(path: str, **screen: Any) -> Page:
        context = browser.new_context(**{**SCREENS["desktop"], "http_credentials": LOGIN, **screen})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{site.url}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if "404" not in text and "403" not in text] == []


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_use_it(name: str, screen: str, opened: Callable[..., Page], tmp_path: Path) -> None:
    """axe-core finds nothing serious, nothing is wider than the screen, and every picture is there."""
    assert AXE, "this test needs axe-core; `make axe` fetches it"
    page = opened(PAGES[name], **SCREENS[screen])
    for picture in page.locator("img").all():
        picture.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=tmp_path / f"{name} {screen}.png", full_page=True)
    for details in page.locator("details").all():
        details.evaluate("details => details.open = true")
    page.evaluate(AXE[-1].read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")
    serious = [
        (fault["id"], [node["html"][:120] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical", "moderate")
    ]
    assert serious == []
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_a_decision_by_keyboard(opened: Callable[..., Page], site: Site) -> None:
    """From the line to the question and back, without a mouse; what has the focus can be seen."""
    page = opened("/lines/eggs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    pause = page.get_by_role("link", name="Pause")
    for _ in range(30):
        page.keyboard.press("Tab")
        if pause.evaluate("link => link === document.activeElement"):
            break
    assert pause.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Pause line eggs?")).to_be_visible()
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Line eggs is paused.")
    assert site.registry.paused.pop("eggs")


def test_a_click_sends_a_form_that_is_accepted(opened: Callable[..., Page], site: Site) -> None:
    """The browser's own Origin, cookie and token pass; a reload that sends the form again does nothing twice."""
    page = opened("/lines/eggs/train")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("status")).to_contain_text("is queued.")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("nothing was done twice")
    assert len(site.jobs.started) == 1
    site.jobs.started.clear()
    site.jobs.cycle = None


def test_another_site_can_do_nothing(opened: Callable[..., Page], site: Site) -> None:
    """It sends somebody's browser, who is logged in and has the cookie, to our address with a form."""
    page = opened("/lines/eggs/pause")
    form = f'<form method="post" action="{site.url}/lines/eggs/pause"><input name="once" value="{"x" * 22}">'

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's own name
            """A page with a form to another site."""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html>{form}<button>Win a prize</button></form>".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    page.goto(f"http://localhost:{other.server_port}/")
    page.get_by_role("button").click()
    expect(page.get_by_role("main")).to_contain_text("This form came from another site. Nothing was done.")
    other.shutdown()
    other.server_close()
    assert "eggs" not in site.registry.paused


def test_progress_is_shown(opened: Callable[..., Page], site: Site) -> None:
    """A running cycle's bar says how far it is, to screen readers too."""
    site.jobs.cycle = replace(RUNNING)
    page = opened("/lines/eggs?fresh")
    site.jobs.cycle = None
    page.wait_for_load_state()
    bar = page.get_by_role("progressbar").first
    expect(bar).to_be_visible()
