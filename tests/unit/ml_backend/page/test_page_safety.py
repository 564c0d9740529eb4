"""Pages keep what people wrote as text, keep strangers out, and stand when other parts don't."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from page_fakes import CONTEST, EXAMPLE, HOSTILE, LEADERBOARD, PEOPLE, PageJobs, PageRegistry, report
from page_reader import Reader, words

from ml_backend.page import remembered
from training.evaluation import Example

PAGES = ["/", "/lines/eggs", "/versions/rankloop.eggs-v3", "/versions/rankloop.eggs-v1", "/lines/eggs/pause"]
FILES = ["/page/page.css", "/page/icon.svg", "/lines/eggs/charts/versions.svg"]


@pytest.mark.parametrize("path", PAGES + FILES)
def test_strangers_see_nothing(path: str, reader: Reader) -> None:
    """Neither without credentials nor with wrong ones; the browser is asked to log in."""
    for headers in ({"Accept": "text/html"}, Reader(reader.client, "eve:guess").headers):
        answer = reader.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert "eggs" not in answer.text


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "text/html;q=0.5, application/json", "text/*;q=0, */*"]
)
def test_label_studio_gets_health_as_ever(reader: Reader, accept: str | None) -> None:
    """Whoever doesn't prefer a page gets JSON at `/`, without credentials."""
    answer = reader.client.get("/", headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer.json) == (200, {"status": "UP", "model_class": "AnswerPairModel"})
    assert answer.headers["Vary"] == "Accept"
    assert reader.client.get("/health", headers={"Accept": "text/html"}).json == answer.json


@pytest.mark.parametrize("path", PAGES)
def test_pages_allow_no_script_and_nothing_from_elsewhere(path: str, reader: Reader) -> None:
    """The policy forbids it, and the page has none of it."""
    answer = reader.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Frame-Options"] == "DENY"
    page = answer.text
    for forbidden in ("<script", " style=", "<style", "javascript:", " onclick", 'src="http'):
        assert forbidden not in page


def test_what_people_wrote_stays_text(reader: Reader, page_registry: PageRegistry) -> None:
    """Hostile answers, prompts, names, sentences and reasons are shown, never run."""
    people = {**PEOPLE["people"][0], "annotator": HOSTILE, "warnings": [HOSTILE]}  # type: ignore[index]
    page_registry.said["eggs"] = {
        "people": {**PEOPLE, "people": [people], "warnings": [HOSTILE], "computed_at": HOSTILE},
        "contest": {**CONTEST, "sentence": HOSTILE, "challenger": HOSTILE},
        "leaderboard": {
            **LEADERBOARD,
            "sentence": HOSTILE,
            "versions": [{**LEADERBOARD["versions"][0], "version": HOSTILE}],
        },  # type: ignore[index]
    }
    first = page_registry.tried["eggs"][0]
    page_registry.tried["eggs"] = [replace(first, reason=HOSTILE, status=HOSTILE, workflow_id=HOSTILE)]
    third = page_registry.known["eggs"][2]
    page_registry.known["eggs"][2] = replace(third, tags={**third.tags, "workflow_id": HOSTILE, "promoted_at": HOSTILE})
    hostile = report(Example(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 0.0, 0.0, 0.0))
    hostile["ppo"]["verdict"] = hostile["ppo"]["stopped"] = HOSTILE
    page_registry.reports["rankloop.eggs-v3"] = hostile
    for path in ("/", "/lines/eggs", "/versions/rankloop.eggs-v3", "/lines/eggs?versions=<script>&people='\"><script>"):
        page = reader.get(path).text
        assert "<script" not in page
        assert "<img src=x" not in page
        assert HOSTILE in words(page) or "&lt;script" in page
    svg = reader.get("/lines/eggs/charts/leaderboard.svg").text
    assert "<script" not in svg
    assert "&lt;script&gt;aler" in svg


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "..", "%2e%2e%2fetc", "x" * 5000, "a\nb"])
def test_names_of_nothing_are_answered_in_words(reader: Reader, name: str) -> None:
    """With a page that says so, whatever the name is."""
    for path in (f"/lines/{name}", f"/versions/{name}", f"/page/{name}"):
        answer = reader.get(path)
        assert answer.status_code in (404, 308)
        assert "<script" not in answer.text


def test_without_a_login_only_this_machines_names_are_answered(make_reader: Callable[..., Reader]) -> None:
    """A site whose name leads here can't read the page or send its forms; a name that was set can."""
    open_reader = make_reader(
        basic_auth_user=None, basic_auth_pass=None, backend_url="http://host.docker.internal:9090"
    )
    for path in ("/", "/lines/eggs", "/lines/eggs/pause"):
        for host, status in (
            ("localhost:9090", 200),
            ("[::1]:9090", 200),
            ("host.docker.internal", 200),
            ("evil.example", 403),
        ):
            answer = open_reader.client.get(path, headers={"Accept": "text/html", "Host": host})
            assert answer.status_code == status, (path, host)
    assert open_reader.client.post("/lines/eggs/pause", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "style"),
    [("/", "./page/page.css"), ("/lines/eggs", "../page/page.css"), ("/lines/eggs/pause", "../../page/page.css")],
)
def test_pages_work_below_any_path(reader: Reader, path: str, style: str) -> None:
    """A proxy may put them below /rankloop/: no link begins at the top of its host."""
    page = reader.get(path).text
    assert f'href="{style}"' in page
    for link in ('href="/', 'src="/', 'action="'):
        assert link not in page


def test_a_chart_is_an_image_and_nothing_else(reader: Reader) -> None:
    """Opened by itself it may style itself and do nothing more."""
    answer = reader.get("/lines/eggs/charts/versions.svg")
    assert answer.content_type == "image/svg+xml"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert reader.get("/lines/eggs/charts/none.svg").status_code == 404


def test_without_anything_there_are_words(reader: Reader, page_registry: PageRegistry) -> None:
    """No judgement, only the base, no line at all: each empty place says what would fill it."""
    page_registry.known["eggs"] = page_registry.known["eggs"][:1]
    page_registry.crowned["eggs"] = ["rankloop.eggs-v1"]
    page_registry.tried["eggs"] = []
    shown = reader.text("/lines/eggs")
    for said in (
        "Only the base model answers so far.",
        "No version is compared with the champion by people.",
        "Nobody has compared answers of two versions yet.",
        "Nobody has judged anything yet",
        "No training has been started on this line.",
    ):
        assert said in shown


def test_a_line_without_versions_and_no_line_at_all(
    make_reader: Callable[..., Reader], page_registry: PageRegistry
) -> None:
    """Before the first start there is nothing, and the page says what begins it."""
    page_registry.known, page_registry.crowned = {"eggs": []}, {}
    shown = make_reader().text("/lines/eggs")
    assert "There are no versions yet. The first rankloop up registers the base model." in shown
    page_registry.known = {}
    assert "No line is known." in make_reader().text("/")


def test_mlflow_down_leaves_a_page_that_says_so(reader: Reader, page_registry: PageRegistry) -> None:
    """What isn't known can't be shown, and the remedy is there; the rest of the page stands."""
    page_registry.broken = "MLflow doesn't answer"
    assert "MLflow : MLflow doesn't answer. Start it again." in reader.text("/")
    answer = reader.get("/lines/eggs")
    assert answer.status_code == 503
    assert "MLflow doesn't answer. Start it again." in words(answer.text)


def test_figures_stay_when_a_part_goes_away(
    reader: Reader, page_registry: PageRegistry, page_jobs: PageJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last ones are shown, with what is wrong."""
    monkeypatch.setattr(remembered, "FRESH_S", -1.0)
    assert "MLflow :" not in reader.text("/lines/eggs")
    page_registry.broken, page_jobs.away = "MLflow doesn't answer", "the job queue can't be used"
    shown = reader.text("/lines/eggs")
    assert "rankloop.eggs-v3 72% 63% to 80%" in shown
    assert "41 of 50 are there" in shown
    assert "MLflow : MLflow doesn't answer. Start it again." in shown


def test_a_job_queue_that_is_away_is_said(reader: Reader, page_jobs: PageJobs) -> None:
    """Versions are shown all the same."""
    page_jobs.away = "the job queue can't be used"
    shown = reader.text("/lines/eggs")
    assert "The job queue : the job queue can't be used. Check RANKLOOP_DATABASE_URL." in shown
    assert "rankloop.eggs-v3" in shown


def test_label_studio_away_is_said(make_reader: Callable[..., Reader]) -> None:
    """Nothing listens at its address; the page says so, and what to do."""
    reader = make_reader(label_studio_api_key="key", label_studio_url="http://127.0.0.1:9")
    assert "Label Studio" in reader.text("/").partition("What is wrong")[2]


def test_a_damaged_report_leaves_the_rest(reader: Reader, page_registry: PageRegistry) -> None:
    """The version's own figures are shown."""
    page_registry.reports["rankloop.eggs-v3"] = {"ppo": {"nonsense": 1}}
    shown = reader.text("/versions/rankloop.eggs-v3")
    assert "Its report can’t be shown." in shown
    assert "72% 63% to 80%" in shown


def test_pages_take_milliseconds(reader: Reader, page_registry: PageRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the registry is, a warm page asks it nothing; and a chart is drawn once."""
    page_registry.said["eggs"] = {"people": PEOPLE, "contest": CONTEST, "leaderboard": LEADERBOARD}
    page_registry.reports["rankloop.eggs-v3"] = report(*[EXAMPLE] * 50)
    for path in PAGES[:3]:
        reader.get(path)

    def asked(*_: Any) -> None:
        raise AssertionError("the registry was asked")

    for name in ("line_states", "versions", "report", "opinions"):
        monkeypatch.setattr(page_registry, name, asked)
    for path in PAGES[:3]:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert reader.get(path).status_code == 200
            took.append(time.perf_counter() - began)
        assert min(took) < 0.1  # a few milliseconds on an idle machine; this one may be busy
