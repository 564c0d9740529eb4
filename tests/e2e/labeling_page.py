"""A person at Label Studio's labeling page: what they see, click and type, through headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, expect, sync_playwright

# Only the page under test: no sandbox (containers have no user namespaces), no calls home.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 60_000


@contextmanager
def chromium_page(width: int = 1400, height: int = 900) -> Iterator[Page]:
    """A page in a fresh headless Chromium, whichever is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    assert executable, f"the browser tests need one of {', '.join(names)}; `make browser` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        try:
            context = browser.new_context(viewport={"width": width, "height": height})
            context.set_default_timeout(PATIENCE_MS)
            yield context.new_page()
        finally:
            browser.close()


_TWO_TEXTS = """() => {
  const texts = [...document.querySelectorAll('[data-testid="htx-textbox-content"]')].map(card => card.innerText);
  return texts.length === 2 ? texts : null;
}"""


class LabelingPage:
    """The labeling page of one project, for a logged-in user."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url.rstrip("/")

    def log_in(self, username: str, password: str) -> None:
        """Fill in the login form."""
        self.page.goto(f"{self._url}/user/login/")
        self.page.fill("input[name=email]", username)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda address: "login" not in address)

    def open_task(self, project_id: int, task_id: int) -> None:
        """Open one task, and wait until both cards hold an answer."""
        self.page.goto(f"{self._url}/projects/{project_id}/data?task={task_id}")
        self.wait_for_answers()

    def wait_for_answers(self) -> None:
        """Wait until both cards hold an answer that a prediction filled in."""
        expect(self.page.get_by_test_id("htx-textbox-content")).to_have_count(2, timeout=PATIENCE_MS)

    def prompt(self) -> str:
        """The displayed prompt."""
        return self.page.locator(".rl-prompt .lsf-richtext").inner_text()

    def answers(self) -> tuple[str, str]:
        """The two displayed answers, left and right."""
        shown = self.page.wait_for_function(_TWO_TEXTS, timeout=PATIENCE_MS)  # the page may draw the cards again
        first, second = shown.json_value()
        return first, second

    def rewrite(self, card: int, text: str) -> None:
        """Hover over a card (1 or 2), click its pencil, replace the answer, and save."""
        area = self.page.locator(".rl-card").nth(card - 1)
        area.get_by_test_id("htx-textbox-content").hover()
        area.get_by_test_id("htx-textbox-edit-button").click()
        area.get_by_test_id("htx-textbox-input").fill(text)
        area.get_by_test_id("htx-textbox-save").click()
        expect(area.get_by_test_id("htx-textbox-content")).to_have_text(text, use_inner_text=True)

    def choice(self, label: str) -> Locator:
        """The radio button of a verdict."""
        return self.page.locator(f'input[name="{label}"]')

    def press(self, key: str, label: str) -> None:
        """Press a verdict's key, and check that it is selected."""
        self.page.keyboard.press(key)
        expect(self.choice(label)).to_be_checked()

    def submit(self, *, by_keyboard: bool) -> None:
        """Submit with Ctrl+Enter or the button, and wait until Label Studio has stored the annotation."""
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ) as stored:
            if by_keyboard:
                self.page.keyboard.press("Control+Enter")
            else:
                self.page.get_by_role("button", name="submit", exact=False).click()
        assert stored.value.ok, stored.value.text()
