"""Two workers on one PostgreSQL, each with a data folder of its own: the second says why it doesn't start."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, find_binaries

from ml_backend.processes import queue_lock
from ml_backend.processes.queue_lock import QueueLock
from training.errors import ConfigError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BINARIES = find_binaries()


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A PostgreSQL server, which locks ask twice a second."""
    if BINARIES is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    monkeypatch.setattr(queue_lock, "CHECK_S", 0.5)
    with PostgresServer(BINARIES) as running:
        running.create("rankloop_jobs")
        yield running


def test_the_second_worker_is_refused_until_the_first_is_gone(postgres: PostgresServer) -> None:
    """The error names the job queue and what to do; when the first has stopped, the second may start."""
    url = postgres.url("rankloop_jobs")
    first, second = QueueLock(url, lost=lambda: None), QueueLock(url, lost=lambda: None)
    first.acquire()
    with pytest.raises(ConfigError, match=r"another worker is using this job queue.*RANKLOOP_DATABASE_URL"):
        second.acquire(wait_s=0.5)
    first.release()
    second.acquire(wait_s=5)
    second.release()


def test_the_lock_survives_the_database(postgres: PostgresServer) -> None:
    """After a crash of PostgreSQL the worker has its lock again; if another was faster, this one stops."""
    url = postgres.url("rankloop_jobs")
    stopped = threading.Event()
    first = QueueLock(url, lost=stopped.set)
    first.acquire()
    postgres.stop(signal.SIGQUIT)
    postgres.start()
    second = QueueLock(url, lost=lambda: None)
    try:
        second.acquire(wait_s=10)
    except ConfigError:
        assert not stopped.wait(1.5)
    else:
        assert stopped.wait(10)
    first.release()
    second.release()
