"""Label Studio's HTTP API, as far as the loop needs it. Nothing else in the house calls Label Studio.

Everything has a time limit; what may be sent twice is retried; a refusal is a LabelStudioError that says what to do.
"""

from __future__ import annotations

from ml_backend.label_studio.backends import Backends
from ml_backend.label_studio.predictions import Predictions
from ml_backend.label_studio.projects import Projects
from ml_backend.label_studio.records import MLBackend, Project, Webhook

__all__ = ["LabelStudio", "MLBackend", "Project", "Webhook"]


class LabelStudio(Projects, Predictions, Backends):
    """A Label Studio server: projects, tasks, annotations, predictions, ML backends and webhooks.

    Args:
        url: its address, for instance `http://localhost:8080`; a path prefix is kept.
        api_key: a personal access token or a legacy token.
        timeout_s: for everyday requests; bulk work gets ten minutes.

    Every method raises LabelStudioError with a remedy when Label Studio refuses, fails or doesn't answer.
    """
