"""Lines: which project is on which line, the settings that differ by project, and when a line trains."""

from ml_backend.lines.connections import Connected, Connections, line_of, not_connected, own_line
from ml_backend.lines.patience import OUTSIDE, Decision, Past, decide
from ml_backend.lines.project_settings import ProjectSettings, agreed, read_extra_params

__all__ = [
    "OUTSIDE",
    "Connected",
    "Connections",
    "Decision",
    "Past",
    "ProjectSettings",
    "agreed",
    "decide",
    "line_of",
    "not_connected",
    "own_line",
    "read_extra_params",
]
