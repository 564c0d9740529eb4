"""Pairwise and ranker projects round the whole loop: judged, trained on, topped up with a better version's answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ml_backend.label_studio import BackendAddress, LabelStudio, init_project
from ml_backend.lines import own_line
from ml_backend.loop import Jobs
from ml_backend.registry import Registry
from training.data import read_preferences, split_of

if TYPE_CHECKING:
    from ml_backend.demo.stack import DemoStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PROMPTS = (ROOT / "ml_backend" / "demo" / "data" / "prompts.txt").read_text(encoding="utf-8").splitlines()[::5][:40]
ANSWERS = [
    "Take a small pot, and warm the water slowly until it is hot, but not until it boils.",
    "Ask a friend.",
    "Begin early, write down what you need, and leave out what you don't.",
    "Read about it first.",
]
JUDGEMENTS = 30
WAITING = 4


@pytest.fixture
def ranked_stack(label_studio_template: Path, quick_training: Path, tmp_path: Path) -> Iterator[DemoStack]:
    """A running Label Studio, server and worker that keep some tasks with fresh answers waiting."""
    from ml_backend.demo.stack import DemoStack

    folder = tmp_path / "stack"
    shutil.copytree(label_studio_template, folder / "label-studio")
    running = DemoStack(folder, train_after=JUDGEMENTS, training_config=quick_training, top_up=WAITING)
    try:
        running.start()
        running.wait_until_up()
        yield running
    finally:
        running.stop()


def _pairwise_row(place: int, prompt: str) -> dict[str, Any]:
    first, second = ANSWERS[place % 2], ANSWERS[place % 2 + 1]
    return {"prompt": prompt, "answer1": first, "answer2": second}


def _ranker_row(place: int, prompt: str) -> dict[str, Any]:
    items = [{"id": f"i{n}", "title": f"Answer {n}", "body": text} for n, text in enumerate(ANSWERS[: 3 + place % 2])]
    return {"prompt": prompt, "items": items}


def _shorter_side(data: Mapping[str, Any]) -> dict[str, Any]:
    side = "left" if len(data["answer1"]) < len(data["answer2"]) else "right"
    place = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison"}
    return {**place, "value": {"selected": side}}


def _shorter_first(data: Mapping[str, Any]) -> dict[str, Any]:
    order = [item["id"] for item in sorted(data["items"], key=lambda item: len(item["body"]))]
    return {"type": "ranker", "from_name": "rank", "to_name": "answers", "value": {"ranker": {"rank": order}}}


KINDS = {"pairwise": (_pairwise_row, _shorter_side), "ranker": (_ranker_row, _shorter_first)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_whose_tasks_hold_the_answers_goes_round(ranked_stack: DemoStack, kind: str) -> None:
    """Judgements by the API start a cycle; its version preselects or orders the open tasks' answers, and tasks with
    fresh ones are added, so that some always wait.
    """
    stack, (row, verdict) = ranked_stack, KINDS[kind]
    registry, jobs = Registry(stack.settings), Jobs(stack.settings)
    xml = (ROOT / "label_configs" / f"{kind}.xml").read_text(encoding="utf-8")
    with LabelStudio(stack.label_studio.url, stack.label_studio.token) as label_studio:
        address = BackendAddress.from_settings(stack.settings)
        project = init_project(label_studio, address, title=kind, label_config=xml).project
        first, second = (f"rankloop.{own_line(project.id)}-v{number}" for number in (1, 2))
        rows = [row(place, prompt) for place, prompt in enumerate(PROMPTS[: JUDGEMENTS + WAITING])]
        label_studio.import_tasks(project.id, rows)
        tasks = label_studio.open_tasks(project.id)
        for task in tasks[:JUDGEMENTS]:
            label_studio.annotate(task["id"], [verdict(task["data"])], lead_time=3.0)

        def promoted() -> bool:
            ended = [cycle for cycle in jobs.cycles() if cycle.ended and cycle.project_id == project.id]
            assert all(cycle.state == "promoted" for cycle in ended), ended
            return bool(ended)

        stack.wait_until(promoted, "the cycle has promoted a version", timeout_s=600)
        champion = registry.champion(own_line(project.id))
        assert champion is not None
        assert champion.name == second
        _check_preferences(read_preferences(registry.fetch(champion) / "preferences.jsonl"), kind)

        def proposed() -> bool:
            return not label_studio.tasks_to_propose(project.id, second)

        stack.wait_until(proposed, f"{second} has an opinion on every open task", timeout_s=300)
        predicted = [item for item in label_studio.predictions(project.id) if item["model_version"] == second]
        still_open = {task["id"]: task for task in label_studio.open_tasks(project.id)}
        assert {item["task"] for item in predicted} == set(still_open)
        for item in predicted:
            _check_prediction(item["result"], still_open[item["task"]]["data"], kind)

        for task_id in list(still_open)[:2]:  # so that fewer wait than are to
            label_studio.annotate(task_id, [verdict(still_open[task_id]["data"])], lead_time=3.0)

        def topped_up() -> bool:
            return len(label_studio.open_tasks(project.id)) >= WAITING

        stack.wait_until(topped_up, "fresh answers wait", timeout_s=300)
        fresh = [task for task in label_studio.open_tasks(project.id) if task["id"] not in still_open]
        assert fresh
        label_studio.annotate(fresh[0]["id"], [verdict(fresh[0]["data"])], lead_time=3.0)
        (judged,) = [task for task in label_studio.export_tasks(project.id) if task["id"] == fresh[0]["id"]]
        assert judged["meta"]["rankloop"]["fresh"]["version"] in (first, second)
        assert judged["data"]["prompt"] in PROMPTS


def _check_preferences(preferences: list[Any], kind: str) -> None:
    """The shorter answer of every pair is chosen; all pairs of a task are there, and in one split."""
    assert all(len(item.chosen) < len(item.rejected) for item in preferences)
    by_task: dict[int, list[Any]] = {}
    for item in preferences:
        by_task.setdefault(item.source.task_id, []).append(item)
    assert len(by_task) == JUDGEMENTS
    assert all(len({split_of(item.prompt) for item in items}) == 1 for items in by_task.values())
    expected = {1} if kind == "pairwise" else {len(list(combinations(range(size), 2))) for size in (3, 4)}
    assert {len(items) for items in by_task.values()} == expected


def _check_prediction(result: list[Any], data: Mapping[str, Any], kind: str) -> None:
    (region,) = result
    if kind == "pairwise":
        assert region["value"]["selected"] in ("left", "right")
    else:
        (order,) = region["value"]["ranker"].values()
        assert sorted(order) == sorted(item["id"] for item in data["items"])
