"""Versions, training cycles and their metrics, stored in MLflow. No other package calls MLflow."""

from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.registry.version_files import VersionRecord, read_record, write_record

__all__ = ["Registry", "Version", "VersionRecord", "read_record", "write_record"]
