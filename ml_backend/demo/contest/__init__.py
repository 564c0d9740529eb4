"""The demo's contests: the annotator compares a challenger with the champion until the worker decides."""

from ml_backend.demo.contest.holding import ContestFigures, hold_contest
from ml_backend.demo.contest.worse import register_worse

__all__ = ["ContestFigures", "hold_contest", "register_worse"]
