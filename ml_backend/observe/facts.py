"""The state of the loop for Prometheus: queue, versions, training cycles, background proposals.

MLflow and DBOS are queried on a separate thread, at most every few seconds, so a scrape costs them almost nothing and
never hangs on them: it reports the last known values, and whether the last query succeeded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from training.errors import RankloopError

if TYPE_CHECKING:
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry, Version
    from ml_backend.serving import Proposer

FRESH_S = 5.0
"""How long known values count as fresh."""
PATIENCE_S = 1.0
"""How long a scrape waits for fresh values before it reports the old ones."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """The last known state from MLflow and DBOS, with each line's champion; `reachable` says which of them answered."""

    champions: Mapping[str, Version] = field(default_factory=dict)
    jobs: Mapping[str, Any] = field(default_factory=dict)
    reachable: Mapping[str, bool] = field(default_factory=dict)


class LoopFacts(Collector):
    """Collects the loop's state at each scrape.

    Args:
        proposer: the loaded champion and its queue.
        registry: the versions.
        jobs: training cycles and background proposals.
    """

    def __init__(self, proposer: Proposer, registry: Registry, jobs: Jobs) -> None:
        self._proposer = proposer
        self._registry = registry
        self._jobs = jobs
        self._facts = Facts()
        self._learned_at = float("-inf")
        self._learning = False
        self._changed = threading.Condition()

    def describe(self) -> list[Metric]:
        """Describe nothing in advance, since that would query MLflow and DBOS."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The current state as gauges."""
        facts = self._fresh()
        yield _gauge("rankloop_queue_waiting", "Questions waiting for the model.", self._proposer.waiting)
        yield _gauge(
            "rankloop_champion_fault", "1 while the champion can't be loaded.", int(bool(self._proposer.fault))
        )
        loaded = [("loaded", line, name) for line, name in self._proposer.loaded().items() if name]
        champions = [("champion", line, version.name) for line, version in facts.champions.items()]
        yield _gauges(
            "rankloop_version", "The versions that are serving (loaded) and those that should be (champion), by line.",
            ("role", "line", "version"), [(labels, 1) for labels in (*loaded, *champions)],
        )  # fmt: skip
        yield _gauges("rankloop_part_up", "Whether MLflow (registry) and DBOS (jobs) answered last time.",
            ("part",), [((part,), int(up)) for part, up in facts.reachable.items()],
        )  # fmt: skip
        trained = [((line,), version.metrics.get("annotations")) for line, version in facts.champions.items()]
        yield _gauges("rankloop_champion_annotations", "Annotations that a line's champion was trained on.",
            ("line",), [(labels, number) for labels, number in trained if number is not None],
        )  # fmt: skip
        yield from _job_gauges(facts.jobs)

    def _fresh(self) -> Facts:
        """The known values, refreshed if stale; the old ones if refreshing takes too long."""
        with self._changed:
            if time.monotonic() - self._learned_at > FRESH_S:
                if not self._learning:
                    self._learning = True
                    threading.Thread(target=self._learn, name="rankloop-facts", daemon=True).start()
                self._changed.wait_for(lambda: not self._learning, PATIENCE_S)
            return self._facts

    def _learn(self) -> None:
        old = self._facts
        champions, registry_up = _asked("registry", self._ask_registry, old.champions)
        jobs, jobs_up = _asked("jobs", self._jobs.status, old.jobs)
        reachable = {"registry": registry_up, "jobs": jobs_up}
        with self._changed:
            self._facts = Facts(champions, jobs, reachable)
            self._learned_at = time.monotonic()
            self._learning = False
            self._changed.notify_all()

    def _ask_registry(self) -> dict[str, Version]:
        states = self._registry.line_states()
        return {state.name: state.champion for state in states if state.champion is not None}


def _asked(part: str, ask: Callable[[], Any], otherwise: Any) -> tuple[Any, bool]:
    """Query a part. Returns its answer, or `otherwise`, and whether it answered; the scrape must go on without it."""
    try:
        return ask(), True
    except RankloopError as error:
        logger.warning("%s can't be queried for its state: %s", part, error)
    except Exception:
        logger.exception("%s can't be queried for its state", part)
    return otherwise, False


def _job_gauges(jobs: Mapping[str, Any]) -> Iterator[Metric]:
    running, ended = jobs.get("running", []), jobs.get("ended", [])
    counts = [(("running",), len(running)), (("queued",), len(jobs.get("queued", [])))]
    yield _gauges("rankloop_cycles", "Training cycles that are running or queued.", ("state",), counts)
    steps = [((str(cycle["project_id"]), cycle["step"] or "starting"), 1) for cycle in running]
    yield _gauges("rankloop_cycle_step", "The step that a running training cycle is in.", ("project", "step"), steps)
    shares = [((str(cycle["project_id"]),), cycle["done"] / cycle["total"]) for cycle in running if cycle.get("total")]
    yield _gauges("rankloop_cycle_step_progress", "How much of that step is done, 0 to 1.", ("project",), shares)
    yield _gauges("rankloop_last_cycle_start_timestamp_seconds", "When the latest cycle with this outcome began.",
        ("state",), list({(cycle["state"],): cycle["created_at"] for cycle in reversed(ended)}.items()),
    )  # fmt: skip
    proposing = jobs.get("proposing", [])
    left = [((str(job["project_id"]),), job["left"]) for job in proposing if job["left"] is not None]
    yield _gauges("rankloop_proposals_left", "Tasks still waiting for background proposals.", ("project",), left)
    stored = [((name,), number) for name, number in jobs.get("stored_by_version", {}).items()]
    yield _gauges(
        "rankloop_proposals_stored", "Proposals stored by background jobs in the last week.", ("version",), stored
    )
    new = [((str(project),), number) for project, number in jobs.get("new_judgements", {}).items()]
    description = "Judgements that no training cycle has used yet."
    yield _gauges("rankloop_new_judgements", description, ("project",), new)


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=value)


def _gauges(
    name: str, description: str, labels: Sequence[str], values: Sequence[tuple[tuple[str, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(name, description, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family
