"""Lines: which project is on which, settings that differ by project, when a line trains, who becomes champion."""

from ml_backend.lines.connections import Connected, Connections, line_of, not_connected, own_line
from ml_backend.lines.patience import OUTSIDE, Decision, Past, decide
from ml_backend.lines.project_settings import ProjectSettings, agreed, read_extra_params
from ml_backend.lines.promotion import judge_contest, put_forward, settle

__all__ = [
    "OUTSIDE",
    "Connected",
    "Connections",
    "Decision",
    "Past",
    "ProjectSettings",
    "agreed",
    "decide",
    "judge_contest",
    "line_of",
    "not_connected",
    "own_line",
    "put_forward",
    "read_extra_params",
    "settle",
]
