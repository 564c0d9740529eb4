"""Jobs that survive crashes, stored in DBOS: `Jobs` enqueues them from any process, `run_worker` runs them."""

from ml_backend.loop.client import Jobs, cancel_cycle
from ml_backend.loop.dataset import convert_snapshots, export_preferences, read_export_file, take_snapshots
from ml_backend.loop.names import WORKER_LOCK
from ml_backend.loop.standing import CycleJob
from ml_backend.loop.worker import run_worker

__all__ = [
    "WORKER_LOCK",
    "CycleJob",
    "Jobs",
    "cancel_cycle",
    "convert_snapshots",
    "export_preferences",
    "read_export_file",
    "run_worker",
    "take_snapshots",
]
