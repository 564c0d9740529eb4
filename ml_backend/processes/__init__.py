"""Starting and stopping processes, their logs, and calls that come in bursts."""

from ml_backend.processes.children import Children, rankloop_command, run_up, told_to_end
from ml_backend.processes.gathering import Gathered
from ml_backend.processes.logs import configure_logging, end_request, log_context, log_tail, start_request
from ml_backend.processes.ports import free_port
from ml_backend.processes.queue_lock import QueueLock
from ml_backend.processes.tether import tethered
from ml_backend.processes.threads import SHARED_CORES, training_threads

__all__ = [
    "SHARED_CORES",
    "Children",
    "Gathered",
    "QueueLock",
    "configure_logging",
    "end_request",
    "free_port",
    "log_context",
    "log_tail",
    "rankloop_command",
    "run_up",
    "start_request",
    "tethered",
    "told_to_end",
    "training_threads",
]
