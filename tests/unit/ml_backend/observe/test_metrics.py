"""What Prometheus reads: counts of requests, predictions and faults, and the state of the loop."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ml_backend.errors import JobsError
from ml_backend.observe.facts import LoopFacts
from ml_backend.observe.metrics import FAULTS_KEPT, Metrics

JOBS = {
    "running": [{"project_id": 7, "step": "ppo", "done": 3, "total": 12, "state": "running", "created_at": 5.0}],
    "queued": [{"project_id": 8}, {"project_id": 9}],
    "ended": [
        {"state": "failed", "created_at": 40.0},
        {"state": "promoted", "created_at": 30.0},
        {"state": "failed", "created_at": 20.0},
    ],
    "proposing": [
        {"project_id": 7, "state": "running", "stored": 500, "left": 4500},
        {"project_id": 8, "state": "queued", "stored": 0, "left": None},
    ],
    "stored_by_version": {"rankloop-v3": 12},
    "new_judgements": {7: 41},
}


class Parts:
    """A proposer, a registry and a job queue in one, each with a state to set."""

    def __init__(self) -> None:
        self.version: str | None = "rankloop-v2"
        self.fault: str | None = None
        self.waiting = 17
        self.away: Exception | None = None
        self.hold: threading.Event | None = None
        self.looks = 0

    def loaded(self) -> dict[str, str | None]:
        """One line is loaded, another isn't at the moment."""
        return {"default": "rankloop-v2", "other": None}

    def line_states(self) -> list[Any]:
        """Version 3, trained on 120 annotations, and a line without a champion."""
        champion = SimpleNamespace(name="rankloop-v3", metrics={"annotations": 120.0})
        return [SimpleNamespace(name="default", champion=champion), SimpleNamespace(name="other", champion=None)]

    def status(self) -> Any:
        """The jobs above, or the injected fault."""
        self.looks += 1
        if self.hold:
            self.hold.wait(30)
        if self.away:
            raise self.away
        return JOBS


@pytest.fixture
def parts() -> Parts:
    """Parts that answer at once."""
    return Parts()


def _facts(parts: Parts) -> LoopFacts:
    return LoopFacts(parts, parts, parts)  # type: ignore[arg-type]  # the parts of each that are used


def _samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values, ordered by label name."""
    return dict(_parsed(metrics.exposition().decode()))


def _parsed(text: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield (sample.name, *(value for _, value in sorted(sample.labels.items()))), sample.value


def test_requests_are_counted_with_their_latency() -> None:
    """Two answers of 30 ms and one of 2 s: the counter has three, the histogram puts them in the right buckets."""
    metrics = Metrics()
    for seconds in (0.03, 0.03, 2.0):
        metrics.answered("POST", "/predict", 200, seconds)
    found = _samples(metrics)
    assert found["rankloop_http_requests_total", "POST", "/predict", "200"] == 3
    assert found["rankloop_http_request_seconds_bucket", "0.05", "/predict"] == 2
    assert found["rankloop_http_request_seconds_bucket", "3.0", "/predict"] == 3
    assert found["rankloop_http_request_seconds_sum", "/predict"] == pytest.approx(2.06)


def test_predictions_are_counted_by_version_and_outcome() -> None:
    """A pending prediction counts for the version it is waiting for."""
    metrics = Metrics()
    pending = {"result": [], "model_version": "v1-pending"}
    metrics.predicted(
        [{"result": [{}], "model_version": "v1"}, {"result": [], "model_version": "v1"}, pending, pending]
    )
    found = _samples(metrics)
    assert found["rankloop_predictions_total", "answered", "v1"] == 1
    assert found["rankloop_predictions_total", "empty", "v1"] == 1
    assert found["rankloop_predictions_total", "pending", "v1"] == 2


def test_faults_are_counted_and_the_last_ones_are_kept() -> None:
    """Each kind has a count and a time; the list is bounded, latest first."""
    metrics = Metrics()
    began = time.time()
    for number in range(FAULTS_KEPT + 5):
        metrics.failed("JobsError", "/webhook", f"id-{number}", "the job queue is away")
    found = _samples(metrics)
    assert found["rankloop_faults_total", "JobsError"] == FAULTS_KEPT + 5
    assert found["rankloop_last_fault_timestamp_seconds", "JobsError"] == pytest.approx(began, abs=60)
    assert len(metrics.faults()) == FAULTS_KEPT
    assert metrics.faults()[0]["request_id"] == f"id-{FAULTS_KEPT + 4}"


def test_the_loop_is_described(parts: Parts) -> None:
    """Queue, versions, the running cycle's step, what is left to propose, and how many judgements are new."""
    found = _samples(Metrics(_facts(parts)))
    assert found["rankloop_queue_waiting",] == 17
    assert found["rankloop_version", "default", "loaded", "rankloop-v2"] == 1
    assert found["rankloop_version", "default", "champion", "rankloop-v3"] == 1
    assert found["rankloop_champion_annotations", "default"] == 120
    assert found["rankloop_cycles", "running"] == 1
    assert found["rankloop_cycles", "queued"] == 2
    assert found["rankloop_cycle_step", "7", "ppo"] == 1
    assert found["rankloop_cycle_step_progress", "7"] == 0.25
    assert found["rankloop_last_cycle_start_timestamp_seconds", "failed"] == 40
    assert found["rankloop_last_cycle_start_timestamp_seconds", "promoted"] == 30
    assert found["rankloop_proposals_left", "7"] == 4500
    assert ("rankloop_proposals_left", "8") not in found
    assert found["rankloop_proposals_stored", "rankloop-v3"] == 12
    assert found["rankloop_new_judgements", "7"] == 41
    assert found["rankloop_part_up", "jobs"] == 1


def test_every_metric_is_documented(parts: Parts) -> None:
    """docs/operations.md lists each metric with its labels, and no others."""
    page = (Path(__file__).parents[4] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(rankloop_\w+)` \| ([\w, ]*) *\|", page, flags=re.MULTILINE)
    documented = {name.removesuffix("_total"): {label for label in labels.replace(" ", "").split(",") if label}
                  for name, labels in rows}  # fmt: skip
    metrics = Metrics(_facts(parts))
    metrics.answered("GET", "/health", 200, 0.1)
    metrics.predicted([{"result": [], "model_version": "v1"}])
    metrics.failed("JobsError", "/webhook", "id", "away")
    metrics.passed_on("queued")
    served: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        served[family.name] = labels
    assert documented == served


def test_many_scrapes_ask_once(parts: Parts) -> None:
    """Scrapes within a few seconds of each other query the job queue once."""
    metrics = Metrics(_facts(parts))
    for _ in range(20):
        metrics.exposition()
    assert parts.looks == 1


def test_a_part_that_is_away_is_told_and_fails_nothing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known values stay, and `part_up` says that they are old. An unexpected error does no more harm."""
    monkeypatch.setattr("ml_backend.observe.facts.FRESH_S", 0.0)
    metrics = Metrics(_facts(parts))
    metrics.exposition()
    for fault in (JobsError("away"), ZeroDivisionError("what?")):
        parts.away = fault
        found = _samples(metrics)
        assert found["rankloop_part_up", "jobs"] == 0
        assert found["rankloop_part_up", "registry"] == 1
        assert found["rankloop_new_judgements", "7"] == 41


def test_a_part_that_hangs_holds_no_scrape_up(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape waits a moment, then reports what it has; only one query runs at a time."""
    monkeypatch.setattr("ml_backend.observe.facts.PATIENCE_S", 0.05)
    parts.hold = threading.Event()
    metrics = Metrics(_facts(parts))
    began = time.monotonic()
    for _ in range(5):
        assert _samples(metrics)["rankloop_queue_waiting",] == 17
    assert time.monotonic() - began < 5
    assert parts.looks == 1
    parts.hold.set()
