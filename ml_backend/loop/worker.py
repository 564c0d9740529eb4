"""The worker side of the job queue. If killed at any point, it resumes where it was after a restart.

Each step of a workflow is recorded when done, and repeated if the process died during it; the steps themselves are in
`cycle` and `proposals`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from dbos import DBOS
from dbos import error as dbos_error
from filelock import FileLock, Timeout

from ml_backend.label_studio import open_label_studio
from ml_backend.lines import OUTSIDE, Connections
from ml_backend.loop import names
from ml_backend.loop.considering import Considering, Look, OpenLabelStudio
from ml_backend.loop.cycle import CycleSteps, Plan
from ml_backend.loop.durable import (
    await_tables,
    cause_of,
    end_older_versions,
    enqueue,
    enqueue_cycle,
    forget_ended,
    in_words,
    is_cancelled,
    patient_step,
    step,
    waits,
)
from ml_backend.loop.opinions import Opinions
from ml_backend.loop.proposals import BulkProposals
from ml_backend.processes import QueueLock, configure_logging
from ml_backend.registry import Registry
from ml_backend.settings import Settings
from ml_backend.upkeep import prune
from training.cycle import Outcome, run_cycle
from training.errors import ConfigError, RankloopError

NICENESS = 5
QUEUE_POLL_S = 0.5
KEEP_ENDED_S = 7 * 24 * 3600.0
"""How long small jobs are kept after their end. Training cycles are kept forever."""
RECONSIDER_AFTER_S = 2.0
"""How long after a cycle's end to count the judgements made during it; the cycle must be over by then."""

logger = logging.getLogger(__name__)


class Worker:
    """Runs the jobs of one data folder.

    Args:
        settings: the configuration.
        registry, steps, proposals, open_connection: the parts that do the work, and the connection to Label Studio;
            created from the settings if not given.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry | None = None,
        steps: CycleSteps | None = None,
        proposals: BulkProposals | None = None,
        open_connection: OpenLabelStudio | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry or Registry(settings)
        self._open = open_connection or partial(open_label_studio, settings)
        self._connections = Connections(settings, self._registry, self._open)
        self._considering = Considering(settings, self._registry, self._connections, self._open)
        self._steps = steps or CycleSteps(settings, self._registry, self._open, self._connections, is_cancelled)
        self._proposals = proposals or BulkProposals(settings, self._registry, self._open, self._connections)
        self._opinions = Opinions(settings, self._registry, self._connections, self._open)
        self._lock = FileLock(settings.home() / names.WORKER_LOCK, timeout=0)
        self._queue_lock = QueueLock(settings.jobs_database_url(), lost=lambda: os.kill(os.getpid(), signal.SIGTERM))

    def start(self) -> None:
        """Start the threads that resume unfinished work and wait for more.

        Raises:
            ConfigError: another worker uses this data folder or job queue, or the reconciliation's schedule is invalid.
            JobsError: the job queue's database can't be reached.
        """
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(
                "another worker is using this data folder", got=str(self._settings.home()), remedy="Stop it first."
            ) from error
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all threads. Work in progress stays unfinished until the next start."""
        DBOS.destroy(destroy_registry=True)
        self._proposals.release()
        self._queue_lock.release()
        self._lock.release()

    def _launch(self) -> None:
        await_tables(self._settings)
        self._queue_lock.acquire()
        DBOS(
            config={
                "name": names.APPLICATION,
                "system_database_url": self._settings.jobs_database_url(),
                "application_version": names.APPLICATION_VERSION,
                "executor_id": names.EXECUTOR,
                "log_level": "ERROR",  # DBOS logs a traceback for each retried step; `durable` logs one line
                "scheduler_polling_interval_sec": 1.0,
            }
        )
        self._register()
        DBOS.launch()
        for queue in names.QUEUES:
            DBOS.register_queue(
                queue, global_concurrency=1, polling_interval_sec=QUEUE_POLL_S, on_conflict="always_update"
            )
        self._schedule()
        self._end_older_versions()
        enqueue(names.RECONCILE, names.DECISIONS_QUEUE, datetime.now().astimezone(), None)

    def _end_older_versions(self) -> None:
        """End cycles that an older release began. They count as interrupted from outside, so they soon start anew."""
        for workflow_id in end_older_versions():
            logger.warning("%s began under an older release and is ended; what is due starts anew", workflow_id)
            run_id = self._registry.run_of(workflow_id)
            if run_id is not None:
                self._steps.end(run_id, "failed", "An upgrade of rankloop ended it.", OUTSIDE)

    def _register(self) -> None:
        """Register the workflows with DBOS under the names that clients use."""

        def training_cycle(project_id: int, trigger: str, given: dict[str, Any]) -> Outcome:
            return self._training_cycle(project_id, trigger, given)

        def consider_training(project_id: int) -> dict[str, Any]:
            return in_words(self._consider_training, project_id)

        def propose_missing(project_id: int) -> dict[str, Any]:
            return in_words(self._propose_missing, project_id)

        def reconcile(_at: datetime, _context: Any) -> dict[str, Any]:
            return in_words(self._reconcile)

        def hear_people(line: str, seen: dict[str, str]) -> dict[str, Any]:
            return in_words(self._hear_people, line, seen)

        DBOS.workflow(name=names.TRAINING_CYCLE)(training_cycle)
        DBOS.workflow(name=names.CONSIDER_TRAINING)(consider_training)
        DBOS.workflow(name=names.PROPOSE_MISSING)(propose_missing)
        DBOS.workflow(name=names.HEAR_PEOPLE)(hear_people)
        self._reconciliation: Any = DBOS.workflow(name=names.RECONCILE)(reconcile)

    def _schedule(self) -> None:
        cron = self._settings.reconcile_cron
        try:
            DBOS.apply_schedules(
                [
                    {
                        "schedule_name": names.RECONCILE,
                        "workflow_fn": self._reconciliation,
                        "schedule": cron,
                        "queue_name": names.DECISIONS_QUEUE,
                    }
                ]
            )
        except dbos_error.DBOSException as error:
            raise ConfigError(
                "RANKLOOP_RECONCILE_CRON can't be used", got=cron, expected="five cron fields such as */5 * * * *"
            ) from error

    def _training_cycle(self, project_id: int, trigger: str, given: dict[str, Any]) -> Outcome:
        """Train on the judgements of a line and promote a better version; then count what arrived in the meantime."""
        workflow_id = str(DBOS.workflow_id)
        run_id = patient_step("attempt", self._steps.attempt, project_id, workflow_id, trigger, given)
        line = None
        try:
            begun = patient_step("begin", self._steps.begin, project_id, workflow_id, run_id, trigger)
            if "refused" in begun:
                refused: Outcome = patient_step("finish", self._steps.end, run_id, "refused", begun["refused"])
                return refused
            plan = Plan(**begun)
            line = plan.line
            outcome = run_cycle(self._steps, plan, patient_step)
        except RankloopError as error:
            outcome = patient_step("finish", self._steps.end, run_id, "failed", str(error), cause_of(error))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            patient_step("finish", self._steps.end, run_id, "failed", reason, cause_of(error))
            enqueue(names.CONSIDER_TRAINING, names.DECISIONS_QUEUE, project_id, delay_s=RECONSIDER_AFTER_S)
            raise
        enqueue(names.CONSIDER_TRAINING, names.DECISIONS_QUEUE, project_id, delay_s=RECONSIDER_AFTER_S)
        if outcome["status"] in {"promoted", "challenger"}:
            for project in patient_step("projects of the line", self._considering.projects_of, line, project_id):
                enqueue(names.PROPOSE_MISSING, names.PROPOSALS_QUEUE, project)
        return outcome

    def _consider_training(self, project_id: int) -> dict[str, Any]:
        """Queue a cycle if the line's new judgements and past cycles call for one. A running one counts again when it
        ends.
        """
        look: Look = step("look at the line", self._considering.project, project_id)
        cycle = self._train_if_due(look)
        if look["line"] is not None:
            self._hear_soon(look)
        return {**look, "cycle": cycle}

    def _train_if_due(self, look: Look) -> str | None:
        if not look["start"]:
            return None
        return enqueue_cycle(look["project_id"], look["line"], names.JUDGEMENTS, look["seen"])

    def _hear_soon(self, look: Look) -> None:
        """Queue a look at what people say on a line, unless one is queued: it will see the same judgements."""
        if waits(names.HEAR_PEOPLE, names.OPINIONS_QUEUE, look["line"]):
            return
        pause_s = step("pause", self._opinions.pause_s, look["line"], look["seen"])
        if pause_s is not None:
            enqueue(names.HEAR_PEOPLE, names.OPINIONS_QUEUE, look["line"], look["seen"], delay_s=pause_s)

    def _hear_people(self, line: str, seen: dict[str, str]) -> dict[str, Any]:
        """Compute and store what a line's judgements say: how people agree, and which version they prefer."""
        heard: dict[str, Any] = step("hear people", self._opinions.hear, line, seen)
        if heard.get("settled"):  # then other proposals are due
            enqueue(names.RECONCILE, names.DECISIONS_QUEUE, datetime.now().astimezone(), None)
        return heard

    def _propose_missing(self, project_id: int) -> dict[str, Any]:
        """Propose until no task is left. If another such job is queued, leave it the work: it sees the same tasks."""
        if waits(names.PROPOSE_MISSING, names.PROPOSALS_QUEUE, project_id):
            return {"stored": 0, "left": None}
        stored = 0
        try:
            while True:
                done = step("propose", self._proposals.some, project_id)
                stored += done["stored"]
                if not done["left"] or not done["stored"]:
                    return {"version": done["version"], "stored": stored, "left": done["left"]}
        finally:
            self._proposals.release()

    def _reconcile(self) -> dict[str, Any]:
        """Pick up what lost webhooks missed, in every project that this backend is connected to."""
        step("forget old jobs", forget_ended, KEEP_ENDED_S)
        if self._settings.label_studio_api_key is None:
            raise ConfigError("LABEL_STUDIO_API_KEY is not set, so lost webhooks can't be recovered")
        looks = []
        for line, projects in step("connected projects", self._considering.lines):
            look = step("look", self._considering.reconcile, line, projects)
            looks.append(look)
            self._train_if_due(look)
            if step("anything unheard", self._opinions.is_stale, line, look.get("seen")):
                self._hear_soon(look)
            for project_id in look["unproposed"]:
                enqueue(names.PROPOSE_MISSING, names.PROPOSALS_QUEUE, project_id)
        step("prune", self._prune)
        return {"looks": looks}

    def _prune(self) -> int:
        """Delete what is old. Returns how much; a folder that can't be deleted waits for the next time."""
        try:
            done = prune(self._settings, self._registry)
        except RankloopError as error:
            logger.warning("nothing is pruned for now: %s", error)
            return 0
        return len(done.versions) + len(done.cycles)


def run_worker(settings: Settings) -> NoReturn:
    """Run jobs until SIGTERM or SIGINT, then exit the process.

    It exits at once, as if killed: training stops with it, and resumes from its last checkpoint at the next start.

    Raises:
        ConfigError: another worker is using this data folder, or a setting is invalid.
    """
    configure_logging(settings.log_format)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    Worker(settings).start()
    logger.info("the worker is ready; its data is in %s", settings.home())
    told.wait()
    logging.shutdown()
    os._exit(0)
