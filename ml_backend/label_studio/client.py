"""A Label Studio server, as far as the loop needs it: everything that can be asked of it in one object."""

from __future__ import annotations

from ml_backend.label_studio.backends import Backends
from ml_backend.label_studio.predictions import Predictions
from ml_backend.label_studio.projects import Projects
from ml_backend.label_studio.refusals import KEY_REMEDY
from ml_backend.settings import Settings
from training.errors import ConfigError


class LabelStudio(Projects, Predictions, Backends):
    """A Label Studio server: projects, tasks, annotations, predictions, ML backends and webhooks.

    Args:
        url: its address, for instance `http://localhost:8080`; a path prefix is kept.
        api_key: a personal access token or a legacy token.
        timeout_s: for everyday requests; bulk work gets ten minutes.

    Every method raises LabelStudioError with a remedy when Label Studio refuses, fails or doesn't answer.
    """


def open_label_studio(settings: Settings) -> LabelStudio:
    """Label Studio as the settings say.

    Raises:
        ConfigError: no key is set.
    """
    if settings.label_studio_api_key is None:
        raise ConfigError("LABEL_STUDIO_API_KEY is not set", remedy=KEY_REMEDY)
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
