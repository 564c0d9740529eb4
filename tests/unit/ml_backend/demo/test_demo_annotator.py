"""The demo's annotator: how it decides, and that its submissions convert back to its decisions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ml_backend.demo.annotator import OpenedTask, SimulatedAnnotator, annotation_result, opened_tasks
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.judgements import judgements_from_export
from ml_backend.labels.predictions import live_prediction
from training.data.types import Verdict

CONFIG = parse_label_config((Path(__file__).parents[4] / "label_config.xml").read_text(encoding="utf-8"))


def _listed(task_id: int, *versions: str) -> dict[str, Any]:
    predictions = [
        {"id": 100 * task_id + number, **live_prediction(CONFIG, f"{version} one", f"{version} two", version)}
        for number, version in enumerate(versions)
    ]
    return {"id": task_id, "data": {"prompt": f"question {task_id}"}, "predictions": predictions}


def _opened(task_id: int) -> OpenedTask:
    return next(opened_tasks([_listed(task_id, "m-v1")], CONFIG, "m-v1"))


def _first(_prompt: str, _answer1: str, _answer2: str) -> Any:
    return "1"


def _neither(_prompt: str, _answer1: str, _answer2: str) -> Any:
    return "tie"


def test_a_task_is_opened_with_the_pair_of_the_asked_version() -> None:
    """An older version's pair is skipped, and a task without the requested version isn't opened."""
    tasks = [_listed(1, "m-v1", "m-v2"), _listed(2, "m-v1"), _listed(3, "m-v2", "m-v1"), _listed(4)]
    opened = list(opened_tasks(tasks, CONFIG, "m-v2"))
    assert [(task.id, task.prediction_id, task.answer1, task.answer2) for task in opened] == [
        (1, 101, "m-v2 one", "m-v2 two"),
        (3, 300, "m-v2 one", "m-v2 two"),
    ]


def test_noise_ties_and_skips_come_as_often_as_they_say() -> None:
    """Of 20,000 tasks: 5% skipped, of the rest 5% tied, of the rest 10% flipped (within four standard deviations)."""
    annotator = SimulatedAnnotator(_first)
    decided = Counter(annotator.decide(_opened(number)) for number in range(20_000))
    shares = {decision: count / 20_000 for decision, count in decided.items()}
    assert shares[None] == pytest.approx(0.05, abs=0.006)
    assert shares[Verdict.TIE] == pytest.approx(0.95 * 0.05, abs=0.006)
    assert shares[Verdict.ANSWER2] == pytest.approx(0.95 * 0.95 * 0.10, abs=0.008)
    assert shares[Verdict.ANSWER1] == pytest.approx(0.95 * 0.95 * 0.90, abs=0.011)


def test_a_tie_turned_round_favours_no_side() -> None:
    """Noise on a tie makes either answer the winner, equally often."""
    annotator = SimulatedAnnotator(_neither)
    decided = [annotator.decide(_opened(number)) for number in range(8_000)]
    turned = [verdict for verdict in decided if verdict in {Verdict.ANSWER1, Verdict.ANSWER2}]
    assert len(turned) / len(decided) == pytest.approx(0.95 * 0.10, abs=0.014)
    assert turned.count(Verdict.ANSWER1) / len(turned) == pytest.approx(0.5, abs=0.08)


def test_the_same_task_gets_the_same_decision() -> None:
    """The noise depends only on seed, task and answers, not on the order of work."""
    tasks = [_opened(number) for number in range(50)]
    forwards = [SimulatedAnnotator(_first, seed=3).decide(task) for task in tasks]
    annotator = SimulatedAnnotator(_first, seed=3)
    assert [annotator.decide(task) for task in reversed(tasks)] == forwards[::-1]
    assert [SimulatedAnnotator(_first, seed=4).decide(task) for task in tasks] != forwards


def test_own_order_is_a_shuffle() -> None:
    """Every task occurs once, in a different but reproducible order."""
    tasks = [_opened(number) for number in range(50)]
    shuffled = SimulatedAnnotator(_first).in_own_order(tasks)
    assert shuffled != tasks
    assert sorted(shuffled, key=lambda task: task.id) == tasks
    assert SimulatedAnnotator(_first).in_own_order(tasks) == shuffled


@pytest.mark.parametrize("verdict", [Verdict.ANSWER1, Verdict.ANSWER2, Verdict.TIE])
def test_what_is_submitted_reads_as_what_was_decided(verdict: Verdict) -> None:
    """Texts, version and verdict survive the conversion unchanged, and nothing counts as edited."""
    task = _opened(7)
    annotation = {
        "id": 1,
        "completed_by": 1,
        "result": annotation_result(task, verdict, CONFIG),
        "was_cancelled": False,
        "parent_prediction": task.prediction_id,
        "updated_at": "2026-01-01T00:00:00Z",
    }
    exported = {"id": task.id, "data": {"prompt": task.prompt}, "annotations": [annotation]}
    judgements, summary = judgements_from_export([exported], CONFIG, 1)
    assert (summary.annotations, summary.kept, summary.edited) == (1, 1, 0)
    (found,) = judgements
    assert (found.prompt, found.verdict) == ("question 7", verdict)
    assert (found.answer1.text, found.answer2.text) == ("m-v1 one", "m-v1 two")
    assert (found.answer1.model_version, found.answer1.edited) == ("m-v1", False)
