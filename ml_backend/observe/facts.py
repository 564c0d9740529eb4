"""How the loop stands, for whoever scrapes: queue, versions, training cycles, proposals in the background.

MLflow and DBOS are asked on a thread of its own and at most every few seconds, so a scrape costs them next to nothing
and never hangs on them: it tells what was learned last, and whether that worked.
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
    from ml_backend.registry import Registry
    from ml_backend.serving import Proposer

FRESH_S = 5.0
"""How long what was learned counts as fresh."""
PATIENCE_S = 1.0
"""How long a scrape waits for fresh facts before it tells the old ones."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What MLflow and DBOS said. `reachable` tells of each part whether it answered."""

    champion: str | None = None
    champion_annotations: float | None = None
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
        """Nothing in advance: asking what there will be would ask MLflow and DBOS."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present state as gauges."""
        facts = self._fresh()
        yield _gauge("rankloop_queue_waiting", "Questions that wait for the model.", self._proposer.waiting)
        yield _gauge(
            "rankloop_champion_fault", "1 while the champion can't be loaded.", int(bool(self._proposer.fault))
        )
        names = [("loaded", self._proposer.version), ("champion", facts.champion)]
        yield _gauges(
            "rankloop_version", "The version that answers (loaded) and the one that should (champion).",
            ("role", "version"), [((role, name), 1) for role, name in names if name],
        )  # fmt: skip
        yield _gauges("rankloop_part_up", "Whether MLflow (registry) and DBOS (jobs) answered the last time.",
            ("part",), [((part,), int(up)) for part, up in facts.reachable.items()],
        )  # fmt: skip
        if facts.champion_annotations is not None:
            annotations = "Annotations that the champion was trained on."
            yield _gauge("rankloop_champion_annotations", annotations, facts.champion_annotations)
        yield from _job_gauges(facts.jobs)

    def _fresh(self) -> Facts:
        """What is known, asked for again where it is old; old facts where asking takes too long."""
        with self._changed:
            if time.monotonic() - self._learned_at > FRESH_S:
                if not self._learning:
                    self._learning = True
                    threading.Thread(target=self._learn, name="rankloop-facts", daemon=True).start()
                self._changed.wait_for(lambda: not self._learning, PATIENCE_S)
            return self._facts

    def _learn(self) -> None:
        old = self._facts
        known = (old.champion, old.champion_annotations)
        (name, annotations), registry_up = _asked("registry", self._ask_registry, known)
        jobs, jobs_up = _asked("jobs", self._jobs.status, old.jobs)
        reachable = {"registry": registry_up, "jobs": jobs_up}
        with self._changed:
            self._facts = Facts(name, annotations, jobs, reachable)
            self._learned_at = time.monotonic()
            self._learning = False
            self._changed.notify_all()

    def _ask_registry(self) -> tuple[str | None, float | None]:
        champion = self._registry.champion()
        return (champion.name, champion.metrics.get("annotations")) if champion else (None, None)


def _asked(part: str, ask: Callable[[], Any], otherwise: Any) -> tuple[Any, bool]:
    """What a part says and whether it said anything; the scrape must go on without it."""
    try:
        return ask(), True
    except RankloopError as error:
        logger.warning("%s can't be asked for its state: %s", part, error)
    except Exception:
        logger.exception("%s can't be asked for its state", part)
    return otherwise, False


def _job_gauges(jobs: Mapping[str, Any]) -> Iterator[Metric]:
    running, ended = jobs.get("running", []), jobs.get("ended", [])
    counts = [(("running",), len(running)), (("queued",), len(jobs.get("queued", [])))]
    yield _gauges("rankloop_cycles", "Training cycles that run or wait.", ("state",), counts)
    steps = [((str(cycle["project_id"]), cycle["step"] or "starting"), 1) for cycle in running]
    yield _gauges("rankloop_cycle_step", "The step a running training cycle is in.", ("project", "step"), steps)
    shares = [((str(cycle["project_id"]),), cycle["done"] / cycle["total"]) for cycle in running if cycle.get("total")]
    yield _gauges("rankloop_cycle_step_progress", "How much of that step is done, 0 to 1.", ("project",), shares)
    yield _gauges("rankloop_last_cycle_start_timestamp_seconds", "When the latest cycle that ended so began.",
        ("state",), list({(cycle["state"],): cycle["created_at"] for cycle in reversed(ended)}.items()),
    )  # fmt: skip
    proposing = jobs.get("proposing", [])
    left = [((str(job["project_id"]),), job["left"]) for job in proposing if job["left"] is not None]
    yield _gauges("rankloop_proposals_left", "Tasks that background proposals still have to do.", ("project",), left)
    stored = [((name,), number) for name, number in jobs.get("stored_by_version", {}).items()]
    yield _gauges(
        "rankloop_proposals_stored", "Proposals stored by background jobs of the last week.", ("version",), stored
    )
    new = [((str(project),), number) for project, number in jobs.get("new_judgements", {}).items()]
    description = "Judgements made since the last training cycle that took them in."
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
