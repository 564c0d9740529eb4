"""Versions by line, training cycles and their metrics, stored in MLflow. No other package calls MLflow."""

from ml_backend.registry.records import DEFAULT_LINE, LINE_NAME, Attempt, Fate, LineState, Version
from ml_backend.registry.registry import Registry
from ml_backend.registry.version_files import VersionRecord, read_record, write_record

__all__ = [
    "DEFAULT_LINE",
    "LINE_NAME",
    "Attempt",
    "Fate",
    "LineState",
    "Registry",
    "Version",
    "VersionRecord",
    "read_record",
    "write_record",
]
