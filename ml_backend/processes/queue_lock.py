"""One worker per job queue: on PostgreSQL, which several machines reach, a lock in the database sees to that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from training.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

LOCK = 7_266_250_556
"""The advisory lock's number; any will do, if all workers use the same one."""
CHECK_S = 5.0
TAKE_OVER_S = 15.0
"""How long a starting worker waits for the lock: PostgreSQL may not notice at once that the last one was killed."""
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""A machine that vanished holds the lock until its connection is given up."""

logger = logging.getLogger(__name__)


class QueueLock:
    """Held by the only worker of a job queue, for as long as its connection lives. Does nothing on SQLite.

    Two workers with data folders of their own would each resume the other's cycles, believing them interrupted.

    Args:
        url: the job queue's database.
        lost: called from another thread when another worker has the lock; this one must then stop at once.
    """

    def __init__(self, url: str, lost: Callable[[], object]) -> None:
        self._lost = lost
        self._engine: Engine | None = None
        if url.startswith("postgresql"):
            from sqlalchemy import create_engine, make_url
            from sqlalchemy.pool import NullPool

            address = make_url(url).set(drivername="postgresql+psycopg")
            self._engine = create_engine(
                address, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_KEEPALIVE
            )
        self._connection: Connection | None = None
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def acquire(self, wait_s: float = TAKE_OVER_S) -> None:
        """Take the lock.

        Raises:
            ConfigError: another worker has it.
            SQLAlchemyError: the database doesn't answer.
        """
        if self._engine is None:
            return
        until = time.monotonic() + wait_s
        while not self._taken(self._engine):
            if time.monotonic() > until:
                raise ConfigError(
                    "another worker is using this job queue",
                    got=self._engine.url.render_as_string(hide_password=True),
                    remedy="Stop it first, or give this one another database with RANKLOOP_DATABASE_URL.",
                )
            self._ended.wait(0.5)
        self._watcher = threading.Thread(target=self._watch, args=(self._engine,), name="rankloop-lock", daemon=True)
        self._watcher.start()

    def release(self) -> None:
        """Give the lock back."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join(2 * CHECK_S)
        self._disconnect()

    def _taken(self, engine: Engine) -> bool:
        from sqlalchemy import text

        connection = engine.connect()
        if connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": LOCK}).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def _watch(self, engine: Engine) -> None:
        """Check that the lock's connection lives. If the database was restarted, take the lock again."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        while not self._ended.wait(CHECK_S):
            try:
                if self._connection is not None:
                    self._connection.execute(text("SELECT 1"))
                elif self._taken(engine):
                    logger.info("the job queue's database is back, and its lock is ours again")
                else:
                    logger.error("another worker took over this job queue, so this one stops")
                    self._lost()
                    return
            except SQLAlchemyError:
                self._disconnect()

    def _disconnect(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()
