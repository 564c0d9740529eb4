"""A training run on disk: its folder, checkpoints, progress, curves, and learning-rate schedules."""

from training.runs.checkpoints import Checkpoints, run_digest
from training.runs.curves import Panel, draw_curves
from training.runs.folder import is_finished, open_run, read_report
from training.runs.progress import StageProgress
from training.runs.schedule import warmup_then_cosine, warmup_then_line

__all__ = [
    "Checkpoints",
    "Panel",
    "StageProgress",
    "draw_curves",
    "is_finished",
    "open_run",
    "read_report",
    "run_digest",
    "warmup_then_cosine",
    "warmup_then_line",
]
