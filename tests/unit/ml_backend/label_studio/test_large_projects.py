"""A project of a hundred thousand tasks: how much is asked for, and that nothing is missed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fake_label_studio import CUT_OFF, FakeLabelStudio
from large_project import LABEL_CONFIG, PROJECT, LargeProject

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio import exports
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import connected_projects
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction

KEY = "0123456789abcdef0123456789abcdef01234567"
CONFIG = parse_label_config(LABEL_CONFIG)
TASK = {"id": 1, "data": {"prompt": "?"}, "annotations": [{"id": 5, "result": [], "was_cancelled": True}]}


@pytest.fixture
def project() -> LargeProject:
    """The project; the first thousand tasks are judged."""
    return LargeProject(judged=1000)


@pytest.fixture
def fake(project: LargeProject) -> Iterator[FakeLabelStudio]:
    """The server."""
    with project.served() as running:
        yield running


@pytest.fixture
def label_studio(fake: FakeLabelStudio) -> Iterator[LabelStudio]:
    """A client that looks 300 tasks ahead."""
    with LabelStudio(fake.url, KEY, timeout_s=20, look_ahead=300) as client:
        yield client


def _prediction(task: int, version: str) -> dict[str, Any]:
    return {"task": task, **live_prediction(CONFIG, f"{version} one", f"{version} two", version)}


def test_a_look_costs_a_handful_of_requests(
    label_studio: LabelStudio, fake: FakeLabelStudio, project: LargeProject
) -> None:
    """Which projects are connected, how much is new, and whether proposals run low: no page is larger than 1,000."""
    (connected,) = connected_projects(label_studio, project.url, project.title)
    assert label_studio.count_judgements_since(connected.id, None) == 1000
    assert label_studio.count_judgements_since(connected.id, "2026-01-02T03:04:05Z") == 0
    assert label_studio.runs_low(connected.id, "m-v1")
    assert len(fake.asked) <= 6, fake.asked
    assert project.largest_page <= 1000


def test_counting_stops_where_the_number_changes_nothing(fake: FakeLabelStudio, project: LargeProject) -> None:
    """Fifty thousand new judgements start a cycle like five thousand; they needn't all be read to know."""
    project.judged = 50_000
    with LabelStudio(fake.url, KEY, enough=5000) as label_studio:
        assert label_studio.count_judgements_since(PROJECT, None) >= 5000
    assert len(fake.asked) == 5


def test_only_the_next_tasks_are_proposed_for(
    label_studio: LabelStudio, fake: FakeLabelStudio, project: LargeProject
) -> None:
    """The 300 open tasks after the judged ones get proposals; when half of them are used up it is time for more."""
    tasks = label_studio.tasks_to_propose(PROJECT, "m-v1")
    assert [task["id"] for task in tasks] == list(range(1001, 1301))
    assert label_studio.replace_predictions(PROJECT, [_prediction(task["id"], "m-v1") for task in tasks]) == 300
    assert label_studio.tasks_to_propose(PROJECT, "m-v1") == []
    project.judged = 1150
    assert not label_studio.runs_low(PROJECT, "m-v1")
    assert len(label_studio.tasks_to_propose(PROJECT, "m-v1")) == 150
    project.judged = 1151
    assert label_studio.runs_low(PROJECT, "m-v1")
    assert len(fake.asked) <= 10


def test_a_promotion_refreshes_the_window_and_keeps_what_is_on_a_screen(
    label_studio: LabelStudio, fake: FakeLabelStudio, project: LargeProject
) -> None:
    """The next tasks get the new version's proposals beside the old ones, which somebody may be looking at."""
    for version in ("m-v1", "m-v10"):
        tasks = label_studio.tasks_to_propose(PROJECT, version)
        label_studio.replace_predictions(PROJECT, [_prediction(task["id"], version) for task in tasks])
    assert project.by_version() == {"m-v1": 300, "m-v10": 300}
    assert label_studio.tasks_to_propose(PROJECT, "m-v1") == []
    assert len(fake.asked) <= 10
    assert not [request for request in fake.asked if request.startswith("DELETE")]


def test_one_poisonous_prediction_does_not_fail_its_batch(
    label_studio: LabelStudio, project: LargeProject, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that was deleted and two whose predictions aren't taken are left out and named; the others are stored."""
    project.gone, project.refused = {1100}, {1001, 1299}
    tasks = label_studio.tasks_to_propose(PROJECT, "m-v1")
    with caplog.at_level(logging.WARNING):
        stored = label_studio.replace_predictions(PROJECT, [_prediction(task["id"], "m-v1") for task in tasks])
    assert stored == 297
    assert project.by_version() == {"m-v1": 297}
    assert "doesn't take 3 predictions of m-v1, those of tasks 1001, 1100, 1299" in caplog.text


def test_a_refusal_of_everything_is_an_error_and_soon(
    label_studio: LabelStudio, fake: FakeLabelStudio, project: LargeProject
) -> None:
    """If Label Studio takes nothing at all, it isn't asked about each of three hundred predictions."""
    project.gone = set(range(1, 200_000))
    tasks = label_studio.tasks_to_propose(PROJECT, "m-v1")
    with pytest.raises(LabelStudioError, match="no such task"):
        label_studio.replace_predictions(PROJECT, [_prediction(task["id"], "m-v1") for task in tasks])
    assert len(fake.asked) < 80


def test_a_task_labeled_while_pages_are_read_hides_no_other(label_studio: LabelStudio, project: LargeProject) -> None:
    """Pages begin after the last id, not after a number of rows: every open task is seen although the list shrinks."""
    project.size = 4000
    seen = []
    for task in label_studio.each_task(PROJECT, "id", *exports.LABELED):
        seen.append(task["id"])
    assert seen == list(range(1, 1001))
    opened = []
    for task in label_studio.each_task(PROJECT, "id", *_open(), page_size=500):
        opened.append(task["id"])
        if task["id"] == 1200:
            project.judged = 1200
    assert opened == list(range(1001, 4001))


def test_a_project_deleted_between_two_requests_is_not_connected(
    label_studio: LabelStudio, fake: FakeLabelStudio, project: LargeProject
) -> None:
    """A 404 for its backends says that it is gone; another refusal is an error."""
    fake.on("GET /api/ml/", (404, {"detail": "Not found."}))
    assert connected_projects(label_studio, project.url, project.title) == []
    fake.on("GET /api/ml/", (403, {"detail": "No."}))
    with pytest.raises(LabelStudioError, match="may not"):
        connected_projects(label_studio, project.url, project.title)


def test_a_leftover_webhook_connects_nothing(label_studio: LabelStudio, project: LargeProject) -> None:
    """A project whose backend was removed isn't connected, though its webhook stays and its title is ours."""
    project.connected = False
    assert connected_projects(label_studio, project.url, project.title) == []


@pytest.mark.parametrize("answer", [(504, "<h1>Gateway Timeout</h1>"), (200, CUT_OFF), (200, "[{"), (404, {})])
def test_an_export_that_is_cut_off_becomes_a_snapshot(
    label_studio: LabelStudio, fake: FakeLabelStudio, answer: Any
) -> None:
    """A gateway's timeout, a connection or JSON that ends too early, and an edition without this export."""
    fake.on("GET /api/projects/7/export", answer)
    exports_path = "/api/projects/7/exports/"
    made: list[dict[str, Any]] = []

    def create(body: dict[str, Any]) -> tuple[int, Any]:
        made.append({"id": 3, "status": "completed", **body})
        return 504, "<h1>Gateway Timeout</h1>"  # the snapshot is made all the same

    fake.answers[f"POST {exports_path}"] = create
    fake.answers[f"GET {exports_path}"] = lambda _: (200, made)
    fake.on(f"GET {exports_path}3/download", (200, [TASK]))
    fake.on(f"DELETE {exports_path}3", (204, ""))
    assert label_studio.export_tasks(PROJECT) == [TASK]
    assert made[0]["task_filter_options"] == {"only_with_annotations": True}
    assert fake.times(f"DELETE {exports_path}3") == 1
    assert fake.times("GET /api/projects/7/export") == 1


def test_without_snapshots_tasks_are_read_page_by_page(label_studio: LabelStudio, fake: FakeLabelStudio) -> None:
    """The last way reads a thousand judged tasks in one page, then the skipped ones."""
    fake.on("GET /api/projects/7/export", (502, "<h1>Bad Gateway</h1>"))
    fake.on("POST /api/projects/7/exports/", (500, {"detail": "failed"}))
    fake.on("GET /api/projects/7/exports/", (200, []))
    tasks = label_studio.export_tasks(PROJECT)
    assert len(tasks) == 1000
    assert tasks[0]["annotations"][0]["id"] == 1
    assert fake.times("GET /api/tasks/") == 2


def test_a_refused_export_is_not_tried_in_other_ways(label_studio: LabelStudio, fake: FakeLabelStudio) -> None:
    """A key that may not export fails at once, with its remedy."""
    fake.on("GET /api/projects/7/export", (403, {"detail": "No."}))
    with pytest.raises(LabelStudioError, match="may not"):
        label_studio.export_tasks(PROJECT)
    assert len(fake.asked) == 1


def _open() -> Any:
    from ml_backend.label_studio.tasks import OPEN

    return OPEN
