"""Three people label the same tasks in real browsers, with a promotion in between and a label config that changes."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from labeling_page import PATIENCE_MS, LabelingPage, chromium_page
from playwright.sync_api import Browser, expect

from ml_backend.demo.annotator import annotation_result, opened_tasks
from ml_backend.demo.stack import environment_of
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.setup import init_project
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.judgements import judgements_from_export
from ml_backend.lines import own_line
from ml_backend.loop.client import Jobs
from ml_backend.processes.children import Children, rankloop_command
from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import free_port
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings, load_settings
from training.data.types import Judgement, Verdict
from training.data.votes import aggregate, agreement, demonstrations_from, rewrites_from

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LIVE = (Path(__file__).parents[2] / "label_config.xml").read_text(encoding="utf-8")
PROMPTS = [f"What is the best way to {task}?" for task in ("cook rice", "make coffee", "paint a wall", "sleep well")]
MANY = [f"How does one learn to {task} in {days} days?" for task in ("swim", "draw") for days in range(1, 14)]
BETTER = "Take your time, and begin with the first step."
LATER = ["How do I boil an egg?", "How do I sew on a button?"]
HEADER = "Read both answers to the end"
WITH_HEADER = LIVE.replace('<View className="rl-prompt">', f'<Header value="{HEADER}"/><View className="rl-prompt">')
RENAMED = (
    LIVE.replace('name="answer1"', 'name="left_answer"')
    .replace('name="answer2"', 'name="right_answer"')
    .replace('name="verdict"', 'name="choice"')
)
VERDICTS = {"1": Verdict.ANSWER1, "2": Verdict.ANSWER2}
LABELS = {"1": "Answer 1", "2": "Answer 2"}

Pair = tuple[str, str]


@dataclass
class Person:
    """An annotator with a browser window of their own. `judged` is their pair and verdict by prompt."""

    id: str
    page: LabelingPage
    url: str
    judged: dict[str, tuple[Pair, Verdict]] = field(default_factory=dict)

    def open_stream(self, project_id: int) -> tuple[str, Pair]:
        """Press Label All Tasks. Returns the prompt and the two answers that come up."""
        self.page.page.goto(f"{self.url}/projects/{project_id}/data?labeling=1")
        self.page.wait_for_answers()
        return self.page.prompt(), self.page.answers()

    def open_task(self, project_id: int, task_id: int) -> Pair:
        """Open one task. Returns the two answers that come up."""
        self.page.open_task(project_id, task_id)
        return self.page.answers()

    def judge(self, key: str) -> None:
        """Judge what is on screen, and submit it."""
        prompt, pair = self.page.prompt(), self.page.answers()
        self.page.press(key, LABELS[key])
        self.page.submit(by_keyboard=True)
        self.judged[prompt] = (pair, VERDICTS[key])


@dataclass(frozen=True)
class Site:
    """A running backend with its worker, and a connection to Label Studio."""

    settings: Settings
    label_studio: LabelStudio
    registry: Registry
    jobs: Jobs
    children: Children
    logs: Path

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 300.0) -> None:
        """Poll until a condition holds."""
        pause, end = threading.Event(), time.monotonic() + timeout_s
        while not condition():
            assert self.children.wait(0) is None, log_tail(self.logs / "worker.log", 40)
            assert time.monotonic() < end, f"still not: {what}\n{log_tail(self.logs / 'worker.log', 40)}"
            pause.wait(0.2)

    def open_project(self, title: str, prompts: list[str], **fields: Any) -> tuple[int, list[int]]:
        """A connected project with these prompts, once all have proposals. Returns its id and its tasks' ids."""
        address = BackendAddress.from_settings(self.settings)
        project_id = init_project(self.label_studio, address, title=title, label_config=LIVE).project.id
        if fields:
            self.label_studio.update_project(project_id, **fields)
        tasks = self.label_studio.import_tasks(project_id, [{"prompt": prompt} for prompt in prompts])
        champion = self.registry.current(own_line(project_id)).name
        self.until(lambda: self.proposed(project_id, champion) == len(tasks), f"proposals of {champion}")
        return project_id, tasks

    def proposed(self, project_id: int, version: str) -> int:
        """How many predictions a version has in a project."""
        return self.label_studio.predictions_by_version(project_id).get(version, 0)

    def promote_another(self, line: str) -> Version:
        """Promote a version with the champion's weights and another name, whose pairs therefore differ."""
        champion = self.registry.current(line)
        copy = self.logs / f"another of {line}"
        shutil.copytree(self.registry.fetch(champion), copy)
        run = self.registry.start_cycle_run(0, f"by-hand-{line}", {"line": line})
        tags = {"kind": "cycle", "workflow_id": f"by-hand-{line}"}
        made = self.registry.register(copy, run_id=run, parent=champion.name, metrics={}, tags=tags, line=line)
        self.registry.finish_run(run, "promoted")
        self.registry.promote(made.name)
        self.jobs.champion_changed()
        return made

    def judgements(self, project_id: int) -> list[Judgement]:
        """The project's judgements, read with the label config that it has now."""
        config = parse_label_config(self.label_studio.project(project_id).label_config)
        return judgements_from_export(self.label_studio.export_tasks(project_id), config, project_id)[0]


@pytest.fixture(scope="module")
def site(label_studio_server: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server and a worker with the demo model."""
    home = tmp_path_factory.mktemp("three-people")
    chosen = {
        "data_dir": home / "data",
        "device": "cpu",
        "max_new_tokens": 16,
        "label_studio_url": label_studio_server.url,
        "label_studio_api_key": label_studio_server.token,
        "port": free_port(),
        "webhook_secret": "three-people",
        "champion_poll_s": 0.5,
        "debounce_s": 0.5,
        "train_after": 1000,
        "reconcile_cron": "*/5 * * * * *",
    }
    settings = load_settings(**chosen)
    jobs, registry = Jobs(settings), Registry(settings)
    with (
        Children(environment_of(chosen), logs=home) as children,
        LabelStudio(label_studio_server.url, label_studio_server.token) as label_studio,
    ):
        running = Site(settings, label_studio, registry, jobs, children, home)
        children.start("serve", rankloop_command("serve"))
        running.until(lambda: registry.champion() is not None, "the base is registered")
        children.start("worker", rankloop_command("worker"))
        running.until(lambda: _answers(settings), "the server answers")
        yield running
        jobs.close()


@pytest.fixture(scope="module")
def people(label_studio_server: LabelStudioServer) -> Iterator[list[Person]]:
    """Three people who came by Label Studio's invitation link, each logged in to a browser of their own."""
    with chromium_page() as page:
        browser = page.context.browser
        assert browser is not None
        yield [_person(label_studio_server, browser, name) for name in ("ann", "ben", "cleo")]


def _answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.public_url()}/status").json()["loaded"] is not None
    except httpx.TransportError:
        return False


def _person(server: LabelStudioServer, browser: Browser, name: str) -> Person:
    email, password = f"{name}@example.com", f"{name}'s long password"
    with httpx.Client(base_url=server.url, timeout=60, follow_redirects=True) as client:
        key = {"Authorization": f"Token {server.token}"}
        link = client.get("/api/invite", headers=key).json()["invite_url"]
        form = client.get(link).text
        found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', form)
        assert found
        client.post(link, data={"csrfmiddlewaretoken": found.group(1), "email": email, "password": password})
        known = client.get("/api/users/", headers=key).json()
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = LabelingPage(context.new_page(), server.url)
    page.log_in(email, password)
    return Person(str(next(user["id"] for user in known if user["email"] == email)), page, server.url)


def test_three_people_with_a_promotion_in_between_and_a_new_label_config(site: Site, people: list[Person]) -> None:
    """Whoever comes second sees the pair that was judged, open pages can be submitted, and every vote is read right."""
    ann, ben, cleo = people
    project_id, tasks = site.open_project("Three people", PROMPTS, maximum_annotations=3)
    line = own_line(project_id)

    for _ in range(2):
        ann.open_stream(project_id)
        ann.judge("1")
    assert len(ann.judged) == 2
    before, _ = cleo.open_stream(project_id)

    version = site.promote_another(line)
    never_judged = set(PROMPTS) - set(ann.judged)
    site.until(lambda: site.proposed(project_id, version.name) >= len(never_judged), "the new version proposes")
    site.until(lambda: _loaded(site, line) == version.name, "the server answers with the new version")

    first_pairs = {prompt: pair for prompt, (pair, _) in ann.judged.items()}
    for _ in tasks:
        prompt, pair = ben.open_stream(project_id)
        assert pair == first_pairs.setdefault(prompt, pair), f"ben sees another pair than ann for {prompt!r}"
        ben.judge("1" if len(ben.judged) % 2 else "2")
    assert set(ben.judged) == set(PROMPTS)

    cleo.judge("2")
    assert set(cleo.judged) == {before}
    for _ in range(len(tasks) - 1):
        prompt, pair = cleo.open_stream(project_id)
        assert pair == first_pairs[prompt], f"cleo sees another pair than those before her for {prompt!r}"
        cleo.judge("1")
    assert set(cleo.judged) == set(PROMPTS)
    _check(site.judgements(project_id), people)
    by = {judgement.answer1.model_version for judgement in site.judgements(project_id) if judgement.annotator == ben.id}
    assert by == {site.registry.base(line).name, version.name}

    site.label_studio.update_project(project_id, label_config=WITH_HEADER)
    later = site.label_studio.import_tasks(project_id, [{"prompt": prompt} for prompt in LATER])
    for person, task, key in ((ann, later[0], "2"), (ben, later[1], "1")):
        first, second = person.open_task(project_id, task)
        expect(person.page.page.get_by_text(HEADER)).to_be_visible()
        assert first != second
        person.judge(key)
    _check(site.judgements(project_id), people)


def test_proposals_from_before_fit_a_label_config_with_other_names(site: Site, people: list[Person]) -> None:
    """Answers and verdict get other names while proposals are stored: pages show pairs, and the votes are read."""
    ann, ben, _ = people
    for person in people:
        person.judged.clear()
    project_id, tasks = site.open_project("Renamed", PROMPTS[:2], maximum_annotations=2)
    site.label_studio.update_project(project_id, label_config=RENAMED)
    site.until(lambda: _fits(site, project_id), "the proposals fit the new label config")
    first = {task: ann.open_task(project_id, task) for task in tasks}
    assert all(left != right for left, right in first.values())
    for person, key in ((ann, "1"), (ben, "2")):
        for _ in tasks:
            person.open_stream(project_id)
            person.judge(key)
    assert {pair for pair, _ in ann.judged.values()} == set(first.values())
    _check(site.judgements(project_id), [ann, ben])


def test_the_page_says_in_words_how_each_person_judges(site: Site, people: list[Person]) -> None:
    """One rewrites an answer, one always chooses left, one is fast and careless: the page shows each, and agreement.

    Each judges a task in the browser, and the others through the API, with the seconds that they take.
    """
    ann, ben, cleo = people
    project_id, tasks = site.open_project("Habits", [*PROMPTS, *MANY], maximum_annotations=3)
    for person in people:
        person.judged.clear()
    ann.open_stream(project_id)
    ann.page.rewrite(2, BETTER)
    ann.judge("2")
    for person in (ben, cleo):
        person.open_stream(project_id)
        person.judge("1")
    rest = dict(zip([*PROMPTS, *MANY], tasks, strict=True))
    _judge(site, ann, project_id, rest, itertools.cycle("12"), seconds=30.0)
    _judge(site, ben, project_id, rest, itertools.repeat("1"), seconds=28.0)
    _judge(site, cleo, project_id, rest, itertools.cycle("1122"), seconds=2.0)

    line, count = own_line(project_id), 3 * len(tasks)
    site.until(lambda: site.registry.opinions(line).get("people", {}).get("judgements") == count, "all are heard")
    page = ann.page.page.context.new_page()
    page.goto(f"{site.settings.public_url()}/lines/{line}")
    table = page.get_by_role("table", name="Each person’s judgements")
    left = f"Chooses the left answer in {len(tasks)} of {len(tasks)} judgements"
    expect(table.get_by_role("row").filter(has_text=left)).to_contain_text(str(ben.id))
    expect(table.get_by_role("row").filter(has_text="Takes 2 seconds for a judgement")).to_contain_text(str(cleo.id))
    expect(page.get_by_text(f"{len(tasks)} of them judged by two or more people")).to_be_visible()
    expect(page.get_by_text("Krippendorff’s alpha").first).to_be_visible()
    page.close()

    judgements = site.judgements(project_id)
    rewrites = rewrites_from(judgements)
    assert [(item.chosen, item.source.rewrite) for item in rewrites] == [(BETTER, True)]
    assert [item.answer for item in demonstrations_from(judgements)] == [BETTER]


def _judge(
    site: Site, person: Person, project_id: int, tasks: dict[str, int], keys: Iterable[str], *, seconds: float
) -> None:
    """Judge the tasks, given by their prompts, that are left to that person, through the API."""
    token = person.page.page.evaluate("fetch('/api/current-user/token').then(answer => answer.json())")["token"]
    config = parse_label_config(LIVE)
    champion = site.registry.current(own_line(project_id)).name
    found = site.label_studio.tasks(project_id, "id,data,predictions,model_version,result")
    shown = {task.id: task for task in opened_tasks(found, config, champion)}
    left = [task for prompt, task in tasks.items() if prompt not in person.judged]
    with LabelStudio(site.label_studio.url, token) as own:
        for task, key in zip(left, keys, strict=False):
            result = annotation_result(shown[task], VERDICTS[key], config)
            own.annotate(task, result, lead_time=seconds, parent_prediction=shown[task].prediction_id)


def _fits(site: Site, project_id: int) -> bool:
    names = {"left_answer", "right_answer"}
    found = site.label_studio.open_tasks(project_id, predictions=True)
    return all(
        any({region["from_name"] for region in prediction["result"]} == names for prediction in task["predictions"])
        for task in found
    )


def _loaded(site: Site, line: str) -> str | None:
    lines = httpx.get(f"{site.settings.public_url()}/status").json()["lines"]
    return next((each["loaded"] for each in lines if each["line"] == line), None)


def _check(judgements: list[Judgement], people: list[Person]) -> None:
    """Each judgement has the sides, the verdict and the author that were seen, and the votes add up."""
    found = {
        (item.annotator, item.prompt): ((item.answer1.text, item.answer2.text), item.verdict) for item in judgements
    }
    assert len(found) == len(judgements)
    assert found == {(person.id, prompt): seen for person in people for prompt, seen in person.judged.items()}

    votes: dict[tuple[str, Pair], dict[str, Verdict]] = {}
    for person in people:
        for prompt, (pair, verdict) in person.judged.items():
            votes.setdefault((prompt, pair), {})[person.id] = verdict
    two = [one == other for each in votes.values() for one, other in combinations(each.values(), 2)]
    assert agreement(judgements) == (sum(two) / len(two) if two else None)
    preferences = aggregate(judgements)
    assert {(item.prompt, item.votes, item.annotators) for item in preferences} == {
        (prompt, len(each), tuple(sorted(each))) for (prompt, _), each in votes.items()
    }
