"""The Label Studio client: every operation in one object."""

from __future__ import annotations

from ml_backend.label_studio.predictions import Predictions
from ml_backend.label_studio.projects import Backends, Projects
from ml_backend.label_studio.refusals import KEY_REMEDY
from ml_backend.label_studio.session import ENOUGH
from ml_backend.settings import Settings
from training.errors import ConfigError


class LabelStudio(Projects, Predictions, Backends):
    """A Label Studio server: projects, tasks, annotations, predictions, ML backends and webhooks.

    Takes the arguments of `Session`. Every method raises LabelStudioError, with a remedy, when Label Studio refuses a
    request, fails or doesn't answer.
    """


def open_label_studio(settings: Settings) -> LabelStudio:
    """A client for the Label Studio that the settings name.

    Raises:
        ConfigError: no API key is set.
    """
    if settings.label_studio_api_key is None:
        raise ConfigError("LABEL_STUDIO_API_KEY is not set", remedy=KEY_REMEDY)
    return LabelStudio(
        settings.label_studio_url,
        settings.label_studio_api_key.get_secret_value(),
        look_ahead=settings.propose_ahead,
        enough=max(ENOUGH, settings.train_after),
    )
