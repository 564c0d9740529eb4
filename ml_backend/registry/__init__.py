"""Versions, training cycles and their metrics, stored in MLflow. No other package calls MLflow."""

from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry

__all__ = ["Registry", "Version"]
