"""Versions, training cycles and their metrics, kept in MLflow. Nothing else in the house calls MLflow."""

from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry

__all__ = ["Registry", "Version"]
