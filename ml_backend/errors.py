"""Errors of the edge: what outside systems, processes and requests do wrong.

RankloopError (training/errors.py)
├── DataError
│   └── LabelConfigError     a labeling configuration has no answers to compare
├── CrashError           a training process was killed or crashed; started again it goes on from its checkpoint
├── OverloadError        more is asked at once than can be answered in time
└── EdgeError            an outside system refused or didn't answer
    ├── LabelStudioError     Label Studio
    ├── RegistryError        MLflow
    └── JobsError            the job queue
"""

from __future__ import annotations

from training.errors import DataError, RankloopError

RETRY_AFTER_S = 5
"""When to come back, told to whoever isn't let in and to whoever met an outside system that is away."""


class LabelConfigError(DataError):
    """A labeling configuration has no answers to compare."""


class CrashError(RankloopError):
    """A training process was killed or crashed; started again it goes on from its checkpoint."""


class OverloadError(RankloopError):
    """More is asked at once than can be answered in time; says when to come back."""

    def __init__(self, what: str) -> None:
        super().__init__(what, remedy=f"Ask again in {RETRY_AFTER_S} seconds.")


class EdgeError(RankloopError):
    """An outside system refused or didn't answer."""


class LabelStudioError(EdgeError):
    """Label Studio refused or didn't answer; `status` is its HTTP status, None when there was no answer."""

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: str | None = None,
        remedy: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(what, got=got, expected=expected, remedy=remedy)
        self.status = status


class RegistryError(EdgeError):
    """MLflow refused, didn't answer, or holds a damaged artifact."""


class JobsError(EdgeError):
    """The job queue can't be reached, or doesn't know a job."""
