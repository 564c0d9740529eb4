"""Building blocks of workflows: steps that are recorded when done, and jobs that are queued once."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from dbos import DBOS
from dbos import error as dbos_error
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from ml_backend.errors import CrashError, EdgeError, JobsError, LabelStudioError
from ml_backend.lines import OUTSIDE
from ml_backend.loop import names
from ml_backend.processes import log_context
from ml_backend.settings import Settings
from training.errors import RankloopError

ATTEMPTS = 6
"""How often a small job's step is tried while an outside system is down: half a minute in all."""
CYCLE_ATTEMPTS = 10
"""The same for a training cycle, which nothing requests again: over eight minutes in all."""
CRASHES = 3
"""How often a step is restarted after its training crashed or was killed."""
FORGET_LIMIT = 1000
DATABASE_WAIT_S = 120.0
"""How long a starting worker waits for its database."""
DATABASE_POLL_S = 2.0

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def make_tables(settings: Settings) -> None:
    """Create or migrate DBOS's tables; server and worker both call this, and the first one does it."""
    logging.getLogger("dbos").setLevel(logging.WARNING)
    with FileLock(settings.home() / "jobs.lock"):
        DBOS.migrate(settings.jobs_database_url())


def await_tables(settings: Settings) -> None:
    """Create or migrate DBOS's tables, waiting for a database server that is still starting.

    Raises:
        JobsError: it doesn't answer.
    """
    until, pause = time.monotonic() + DATABASE_WAIT_S, threading.Event()
    while True:
        try:
            return make_tables(settings)
        except SQLAlchemyError as error:
            reason = str(error).partition("\n")[0][:200]
            if time.monotonic() > until:
                raise JobsError(
                    "the job queue's database doesn't answer", remedy=f"Check RANKLOOP_DATABASE_URL. {reason}"
                ) from error
            logger.warning("the job queue's database doesn't answer yet: %s", reason)
        pause.wait(DATABASE_POLL_S)


def step(name: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a step of the current workflow: recorded when done, retried while an outside system is down."""
    return _step(name, ATTEMPTS, function, *arguments)


def patient_step(name: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a training cycle's step: retried for longer; training that was killed resumes from its checkpoint."""
    return _step(name, CYCLE_ATTEMPTS, function, *arguments)


def _step(name: str, attempts: int, function: Callable[..., Result], *arguments: Any) -> Result:
    DBOS.set_event(names.STEP_EVENT, name)
    crashes = itertools.count(1)

    def may_pass(error: BaseException) -> bool:
        if isinstance(error, CrashError) and next(crashes) > CRASHES:
            return False
        return _may_pass(error)

    options: Any = {"name": name, "retries_allowed": True, "max_attempts": attempts, "should_retry": may_pass}
    try:
        with log_context(workflow_id=DBOS.workflow_id, step=name):
            return DBOS.run_step(options, function, *arguments)
    except dbos_error.DBOSMaxStepRetriesExceeded as error:
        raise error.errors[-1] from error


def forget_ended(older_than_s: float) -> int:
    """Delete small jobs that ended longer ago than this, so that the tables don't grow forever. Returns how many."""
    before = datetime.now(UTC) - timedelta(seconds=older_than_s)
    ended = DBOS.list_workflows(
        name=[names.CONSIDER_TRAINING, names.PROPOSE_MISSING, names.RECONCILE, names.HEAR_PEOPLE],
        completed_before=before.isoformat(),
        limit=FORGET_LIMIT,
        load_input=False,
        load_output=False,
    )
    DBOS.delete_workflows([item.workflow_id for item in ended])
    return len(ended)


def in_words(workflow: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a small workflow that will be requested again anyway; an error is logged as one sentence."""
    try:
        with log_context(workflow_id=DBOS.workflow_id):
            return workflow(*arguments)
    except RankloopError as error:
        logger.warning("%s%s: %s", workflow.__name__.strip("_"), arguments or "", error)
        return {"fault": str(error)}


def cause_of(error: BaseException) -> str:
    """The cause of a failed cycle: an outside system that didn't answer, or the kind of error."""
    return OUTSIDE if isinstance(error, EdgeError) and _may_pass(error) else type(error).__name__


def _may_pass(error: BaseException) -> bool:
    """Whether a fault is transient: an outside system that didn't answer, or training that was killed or found the disk
    full; not a system or training that rejected its input.
    """
    if isinstance(error, LabelStudioError):
        passing = error.status is None or error.status >= 500 or error.status == 429
    else:
        passing = isinstance(error, CrashError) or (isinstance(error, EdgeError) and error.__cause__ is not None)
    if passing:
        logger.info("trying again in a moment: %s", error)
    return passing


def enqueue(workflow: str, queue: str, *arguments: Any, delay_s: float | None = None) -> None:
    """Queue a workflow, from within another one or from a launched worker."""
    given: Any = names.options(workflow, queue, delay_s)
    DBOS.enqueue_workflow_with_options(given, *arguments)


def waits(workflow: str, queue: str, argument: object) -> bool:
    """Whether a workflow with this first argument is queued and not running yet."""
    found = DBOS.list_workflows(name=workflow, status=list(names.WAITING), queue_name=queue, load_output=False)
    return any(item.input and item.input["args"][0] == argument for item in found)


def enqueue_cycle(project_id: int, line: str, trigger: str, seen: Mapping[str, str]) -> str:
    """Queue a cycle, unless the line already has one. Returns the id of the queued or existing cycle.

    Args:
        project_id: a project of the line.
        line: the line.
        trigger: why.
        seen: the newest judgement of each project of the line.
    """
    own = hashlib.blake2b(f"{DBOS.workflow_id} {line}".encode(), digest_size=4).hexdigest()  # the same when repeated
    options: Any = {
        **names.cycle_options(project_id, line, f"cycle-{project_id}-{own}"),
        "duplication_policy": "return-existing",
    }
    given = {"line": line, "seen": dict(seen)}
    return DBOS.enqueue_workflow_with_options(options, project_id, trigger, given).workflow_id


def is_cancelled(workflow_id: str) -> bool:
    """Whether somebody cancelled a workflow. An answer that can't be had counts as no."""
    try:
        found = DBOS.list_workflows(workflow_ids=[workflow_id], load_input=False, load_output=False)
    except Exception:  # whatever the database driver raises; it is asked again in a second
        logger.warning("it can't be told whether %s was cancelled", workflow_id)
        return False
    return any(item.status == "CANCELLED" for item in found)


def end_older_versions() -> list[str]:
    """Cancel unfinished work of releases whose workflows had other steps. Returns the ids of training cycles."""
    unfinished = DBOS.list_workflows(status=list(names.UNFINISHED), load_input=False, load_output=False)
    older = [item for item in unfinished if item.app_version not in (None, names.APPLICATION_VERSION)]
    for item in older:
        DBOS.cancel_workflow(item.workflow_id)
    return [item.workflow_id for item in older if item.name == names.TRAINING_CYCLE]
