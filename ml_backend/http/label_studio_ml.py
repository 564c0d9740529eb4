"""The same model for hosting with label-studio-ml 2.x, alongside other models.

    from label_studio_ml.api import init_app
    from ml_backend.http.label_studio_ml import hosted_model
    from ml_backend.settings import load_settings

    app = init_app(model_class=hosted_model(load_settings()))

label-studio-ml passes on neither TASKS_CREATED nor deleted annotations, so new tasks and judgements are found by the
scheduled reconciliation of `rankloop worker`. Our own server (`rankloop serve`) handles both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_backend.http.events import pass_on
from ml_backend.http.messages import WebhookRequest, parse_request
from ml_backend.http.projects import KnownProject, KnownProjects
from ml_backend.loop import Jobs
from ml_backend.registry import Registry
from ml_backend.serving import AnswerPairModel, Prediction, Proposer
from ml_backend.settings import Settings
from training.errors import ConfigError

INSTALL = "pip install --no-deps git+https://github.com/HumanSignal/label-studio-ml-backend.git colorama semver"


def hosted_model(settings: Settings, proposer: Proposer | None = None, jobs: Jobs | None = None) -> type[Any]:
    """Create a `LabelStudioMLBase` class for `label_studio_ml.api.init_app`.

    Args:
        settings: the configuration.
        proposer: the champions; None creates and starts a proposer.
        jobs: enqueues training and proposals; None creates it.

    Raises:
        ConfigError: label-studio-ml 2.x isn't installed.
        RegistryError: the model registry can't be reached.
    """
    base: Any = _base_class()
    champions = proposer or _started_proposer(settings)
    queue = jobs or Jobs(settings)
    projects = KnownProjects(Registry(settings).taken_over_at)
    model = AnswerPairModel(champions, queue.propose, deadline_s=settings.predict_deadline_s)

    class RankloopModel(base):  # type: ignore[misc]  # the base comes from a package without annotations
        """One request's view of its line's champion, with label-studio-ml's interface."""

        def setup(self) -> None:
            """Report the version that is serving; label-studio-ml stores it on disk, per project."""
            version = champions.expected(self._known().line)
            if self.get("model_version") != version:
                self.set("model_version", version)

        def predict(self, tasks: Sequence[Mapping[str, Any]], *_: Any, **__: Any) -> list[Prediction]:
            """One prediction per task, whatever the context; see `AnswerPairModel.predict`."""
            known = self._known()
            return model.predict(tasks, self.label_config, self._number(), line=known.line, settings=known.settings)

        def fit(self, event: str, data: Mapping[str, Any], **_: Any) -> Mapping[str, Any]:
            """Pass on an event; see `events.pass_on`."""
            return pass_on(parse_request(WebhookRequest, {**data, "action": event}), queue)

        def _number(self) -> int | None:
            return int(self.project_id) if str(self.project_id).isdigit() else None

        def _known(self) -> KnownProject:
            """The project's line and settings; label-studio-ml passes on `extra_params` where it knows them."""
            given = getattr(self, "extra_params", None) or None
            return projects.setup(self._number(), None, given)

    return RankloopModel


def _base_class() -> type[Any]:
    try:
        from label_studio_ml.model import LabelStudioMLBase
    except ImportError as error:
        raise ConfigError(
            "label-studio-ml can't be imported",
            got=str(error),
            expected="label-studio-ml 2.x, available only from its git repository",
            remedy=f"Install it with: {INSTALL}",
        ) from error
    return LabelStudioMLBase  # type: ignore[no-any-return]


def _started_proposer(settings: Settings) -> Proposer:
    proposer = Proposer(Registry(settings), settings)
    proposer.start()
    return proposer
