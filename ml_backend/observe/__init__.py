"""Observability: metrics, the state of the loop, and console output."""

from ml_backend.observe.console import messages, output, progress_bar, show_table, stage_bar
from ml_backend.observe.facts import LoopFacts
from ml_backend.observe.metrics import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "LoopFacts", "Metrics", "messages", "output", "progress_bar", "show_table", "stage_bar"]
