"""The client side of the job queue: enqueues jobs and reports on them, in milliseconds. Nothing runs here."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from dbos import DBOSClient, DebouncerClient
from dbos import error as dbos_error
from sqlalchemy.exc import SQLAlchemyError

from ml_backend.errors import JobsError, LabelStudioError
from ml_backend.label_studio import LabelStudio
from ml_backend.loop import names
from ml_backend.loop.durable import make_tables
from ml_backend.loop.names import ASKED, FORCED
from ml_backend.loop.standing import (
    CycleJob,
    cycle_job,
    given_to,
    new_judgements,
    project_of,
    proposing,
    stored_by_version,
    waiting,
)
from ml_backend.processes import Gathered
from ml_backend.registry import Registry
from ml_backend.settings import Settings

SHORTEST_DEBOUNCE_S = 0.1
STORED_EVERY_S = 1.0
"""The shortest interval between equal requests for a project; each is a transaction, and a hundred may come at once."""
LOOK_TIMEOUT_S = 1.0
"""How long to wait for Label Studio before a cycle is queued without checking it: someone is waiting for the answer."""
POLL_S = 0.5
logger = logging.getLogger(__name__)


class Jobs:
    """Enqueues training cycles and proposals. Thread-safe; connects on first use.

    Every method raises JobsError if the job queue can't be reached. `judgement_arrived` and `propose` are coalesced per
    project, and raise OverloadError while the job queue hangs.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connecting = threading.Lock()
        self._connection: DBOSClient | None = None
        self._judged = Gathered(self._store_judgement, STORED_EVERY_S)
        self._unproposed = Gathered(self._store_proposal, STORED_EVERY_S)

    def judgement_arrived(self, project_id: int) -> None:
        """Note that annotations changed: once the project is quiet, count them, and train if there are enough."""
        self._judged(project_id)

    def propose(self, project_id: int) -> None:
        """Enqueue proposals for the project's open tasks that have no answers from the champion."""
        self._unproposed(project_id)

    def champion_changed(self) -> None:
        """Enqueue a reconciliation, so that open tasks of connected projects get answers from the new champion."""
        with self._asking() as client:
            given: Any = names.options(names.RECONCILE, names.DECISIONS_QUEUE)
            client.enqueue(given, datetime.now().astimezone(), None)

    def start_training(self, project_id: int, line: str | None = None, *, force: bool = False) -> dict[str, Any]:
        """Queue a training cycle now, unless its line already has one or the project clearly has too few judgements.

        Whether the project is connected, and its line not paused, is found out when the cycle begins.

        Args:
            project_id: the project.
            line: its line, if known.
            force: train even if the line is paused.

        Returns:
            `job` (its id, or None), `status` (`queued`, `running` or `refused`) and `message`.
        """
        current = self._current(project_id, line)
        if current is None:
            refusal = self._too_few(project_id)
            if refusal:
                return {"job": None, "status": "refused", "message": refusal}
            workflow_id = f"cycle-{project_id}-{secrets.token_hex(4)}"
            options: Any = names.cycle_options(project_id, line, workflow_id)
            with self._asking() as client:
                try:
                    client.enqueue(options, project_id, FORCED if force else ASKED, {"line": line})
                except dbos_error.DBOSQueueDeduplicatedError:  # another caller was faster
                    current = self._current(project_id, line)
                else:
                    message = f"Training cycle {workflow_id} is queued."
                    return {"job": workflow_id, "status": "queued", "message": message}
        if current is None:
            return {"job": None, "status": "refused", "message": "A training cycle has just finished; try again."}
        message = f"Training cycle {current.job} of {_whose(current)} is already {current.state}."
        return {"job": current.job, "status": current.state, "message": message}

    def cancel(self, job: str) -> tuple[CycleJob, dict[str, Any]]:
        """End a training cycle: a queued one never starts, and a running one's training process ends within seconds.

        Returns:
            The cycle as it was, and what it was given when it was queued: its `line` and the judgements `seen`.

        Raises:
            JobsError: there is no such cycle, or it has ended.
        """
        with self._asking() as client:
            found = client.list_workflows(workflow_ids=[job], name=names.TRAINING_CYCLE)
            if not found:
                raise JobsError("there is no such training cycle", got=job, remedy="`rankloop status` lists them.")
            cycle = self._cycle(client, found[0])
            if cycle.ended:
                raise JobsError(f"training cycle {job} has ended", got=cycle.state, expected="queued or running")
            client.cancel_workflow(job)
        return cycle, given_to(found[0])

    def cycles(self, limit: int = 20) -> list[CycleJob]:
        """Training cycles of all projects, latest first."""
        with self._asking() as client:
            found = client.list_workflows(name=names.TRAINING_CYCLE, sort_desc=True, limit=limit)
            return [self._cycle(client, item) for item in found]

    def status(self) -> dict[str, Any]:
        """What is queued and running, and how the latest cycles ended, as JSON-serializable data.

        Returns:
            Training cycles `running`, `queued` and `ended`; background proposals `proposing` (see `standing`);
            `stored_by_version`; what each line is `waiting` for; `new_judgements` by project.
        """
        cycles = self.cycles()
        with self._asking() as client:
            looks = waiting(client)
            return {
                "running": [asdict(cycle) for cycle in cycles if cycle.state == "running"],
                "queued": [asdict(cycle) for cycle in cycles if cycle.state == "queued"],
                "ended": [asdict(cycle) for cycle in cycles if cycle.ended],
                "proposing": proposing(client),
                "stored_by_version": stored_by_version(client),
                "waiting": looks,
                "new_judgements": new_judgements(looks),
            }

    def wait(
        self,
        job: str,
        on_progress: Callable[[CycleJob], None] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> CycleJob:
        """Wait for a training cycle to end.

        Args:
            job: its id.
            on_progress: called whenever the cycle changes.
            timeout_s: the longest to wait.

        Returns:
            The cycle at its end or at the timeout.

        Raises:
            JobsError: there is no such cycle.
        """
        until = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        pause = threading.Event()
        told = None
        while True:
            with self._asking() as client:
                found = client.list_workflows(workflow_ids=[job], name=names.TRAINING_CYCLE)
                if not found:
                    raise JobsError("there is no such training cycle", got=job)
                cycle = self._cycle(client, found[0])
            if on_progress and cycle != told:
                told = cycle
                on_progress(cycle)
            if cycle.ended or time.monotonic() >= until:
                return cycle
            pause.wait(POLL_S)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._judged.close()
        self._unproposed.close()
        with self._connecting:
            if self._connection is not None:
                self._connection.destroy()
                self._connection = None

    def _store_judgement(self, project_id: int) -> None:
        with self._asking() as client:
            debouncer = DebouncerClient(
                client,
                names.options(names.CONSIDER_TRAINING, names.DECISIONS_QUEUE),  # type: ignore[arg-type]
                debounce_timeout_sec=self._settings.debounce_max_s or None,
            )
            debouncer.debounce(str(project_id), max(self._settings.debounce_s, SHORTEST_DEBOUNCE_S), project_id)

    def _store_proposal(self, project_id: int) -> None:
        with self._asking() as client:
            given: Any = names.options(names.PROPOSE_MISSING, names.PROPOSALS_QUEUE)
            client.enqueue(given, project_id)

    def _current(self, project_id: int, line: str | None) -> CycleJob | None:
        with self._asking() as client:
            unfinished = client.list_workflows(name=names.TRAINING_CYCLE, status=list(names.UNFINISHED))
            found = [item for item in unfinished if project_of(item) == project_id or _is_for(item, line)]
            return self._cycle(client, found[0]) if found else None

    def _too_few(self, project_id: int) -> str | None:
        """Why a cycle would be pointless, if a quick look shows it. The cycle itself counts exactly."""
        key = self._settings.label_studio_api_key
        if key is None:
            return None
        needed = self._settings.cycle_config().gates.min_preferences
        url = self._settings.label_studio_url
        try:
            with LabelStudio(url, key.get_secret_value(), timeout_s=LOOK_TIMEOUT_S) as label_studio:
                project = label_studio.project(project_id)
        except LabelStudioError as error:
            if error.status == 404:
                return str(error)
            logger.warning("a cycle of project %d is queued without checking Label Studio: %s", project_id, error)
            return None
        if project.judgements >= needed:
            return None
        return (
            f"Project {project_id} has {project.judgements} judgements; training needs at least {needed}. "
            "Label more tasks first."
        )

    def _cycle(self, client: DBOSClient, item: Any) -> CycleJob:
        return cycle_job(client, item, self._settings.home())

    @contextmanager
    def _asking(self) -> Iterator[DBOSClient]:
        try:
            yield self._connected()
        except (SQLAlchemyError, dbos_error.DBOSException, OSError) as error:
            raise JobsError(
                f"the job queue can't be used: {type(error).__name__}",
                remedy="Check RANKLOOP_DATABASE_URL and the data folder. " + str(error).partition("\n")[0][:200],
            ) from error

    def _connected(self) -> DBOSClient:
        with self._connecting:
            if self._connection is None:
                make_tables(self._settings)
                url = self._settings.jobs_database_url()
                self._connection = DBOSClient(
                    system_database_url=url, application_name=names.APPLICATION, retry_connection_errors=False
                )
            return self._connection


def cancel_cycle(jobs: Jobs, registry: Registry, job: str) -> CycleJob:
    """End a training cycle and record that somebody cancelled it: its judgements count as seen. See `Jobs.cancel`.

    Returns:
        The cycle as it was.
    """
    cycle, given = jobs.cancel(job)
    tags = {"line": given["line"]} if given.get("line") else {}
    if given.get("seen"):
        tags["seen"] = json.dumps(given["seen"])
    registry.finish_run(registry.start_cycle_run(cycle.project_id, job, tags), "cancelled", "Somebody cancelled it.")
    return cycle


def _whose(cycle: CycleJob) -> str:
    return f"line {cycle.line}" if cycle.line else f"project {cycle.project_id}"


def _is_for(item: Any, line: str | None) -> bool:
    return line is not None and given_to(item).get("line") == line
