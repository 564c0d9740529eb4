"""Jobs that survive crashes, kept in DBOS: `Jobs` asks for them from any process, `run_worker` does them."""

from __future__ import annotations

from ml_backend.loop.client import CycleJob, Jobs
from ml_backend.loop.worker import Worker, run_worker

__all__ = ["CycleJob", "Jobs", "Worker", "run_worker"]
