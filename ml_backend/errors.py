"""The backend's errors: faults of outside systems, processes and requests.

RankloopError (training/errors.py)
├── DataError
│   └── LabelConfigError     a labeling configuration has no answers to compare
├── CancelledError       somebody cancelled a training cycle
├── CrashError           a training process was killed or crashed; a restart resumes from its checkpoint
├── OverloadError        there are too many requests to answer in time
└── EdgeError            an outside system refused a request or didn't answer
    ├── LabelStudioError     Label Studio
    ├── RegistryError        MLflow
    │   └── SupersededError  a version can't replace a champion that is no longer champion
    ├── JobsError            the job queue
    └── HubError             the Hugging Face hub
"""

from __future__ import annotations

from training.errors import DataError, RankloopError

RETRY_AFTER_S = 5
"""When clients should retry after an overload, or while an outside system is unavailable."""


class LabelConfigError(DataError):
    """A labeling configuration has no answers to compare."""


class CrashError(RankloopError):
    """A training process was killed or crashed; a restart resumes from its checkpoint."""


class CancelledError(RankloopError):
    """Somebody cancelled a training cycle."""


class OverloadError(RankloopError):
    """There are too many requests to answer in time; the remedy says when to retry."""

    def __init__(self, what: str) -> None:
        super().__init__(what, remedy=f"Try again in {RETRY_AFTER_S} seconds.")


class EdgeError(RankloopError):
    """An outside system refused a request or didn't answer."""


class LabelStudioError(EdgeError):
    """Label Studio refused a request or didn't answer; `status` is its HTTP status, None without a response."""

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
    """MLflow refused a request, didn't answer, or holds a damaged artifact."""


class SupersededError(RegistryError):
    """A version was to replace a champion that is no longer champion."""


class JobsError(EdgeError):
    """The job queue can't be reached, or doesn't know a job."""


class HubError(EdgeError):
    """The Hugging Face hub refused a request, can't be reached, or nobody is logged in."""
