"""The connection to MLflow, and its only importer: made on first use, quiet, with readable errors."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import BaseFileLock, FileLock

from ml_backend.errors import RegistryError
from ml_backend.registry.records import DEFAULT_LINE, LINE_NAME
from ml_backend.settings import Settings

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's codes for no such model, no such alias


class Session:
    """A connection to MLflow: one experiment named `settings.model_name`, and a registered model for each line.

    The default line's model has that name too; another line's has the line's name behind it, after a dot.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.model_name
        self._home = settings.home()
        self._connecting = threading.Lock()
        self._connection: tuple[Any, str] | None = None

    @property
    def _client(self) -> Any:
        return self._connected()[0]

    def _connected(self) -> tuple[Any, str]:
        """MLflow's client and the experiment's id."""
        with self._connecting:
            if self._connection is None:
                _quieten()
                # Two processes creating the tables at once would interfere with each other.
                with self._lock("connect"), _asking("connect", self._settings.tracking_uri()):
                    client = _connect(self._settings.tracking_uri())
                    self._connection = client, self._experiment(client)
            return self._connection

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self._name)
        if found is None:
            # A server decides for itself where its artifacts go.
            served = self._settings.tracking_uri().startswith(("http://", "https://", "databricks"))
            location = None if served else (self._home / "mlartifacts").as_uri()
            return str(client.create_experiment(self._name, artifact_location=location))
        if found.lifecycle_stage == "deleted":
            raise RegistryError(
                f"the experiment {self._name} was deleted in MLflow",
                remedy=f"Run: mlflow experiments restore -x {found.experiment_id}",
            )
        return str(found.experiment_id)

    def _lock(self, purpose: str) -> BaseFileLock:
        """Keeps other processes on this machine, and other threads, from doing the same thing at once."""
        folder = self._home / "locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / f"registry-{safe_id(purpose)}.lock")

    def _model(self, line: str) -> str:
        """The registered model of a line.

        Raises:
            RegistryError: no line can have this name.
        """
        if not LINE_NAME.fullmatch(line):
            raise RegistryError("a line can't have this name", got=line, expected=LINE_NAME.pattern)
        return self._name if line == DEFAULT_LINE else f"{self._name}.{line}"

    @contextmanager
    def _asking(self, doing: str) -> Iterator[Any]:
        """Yields the client; errors become readable. `doing` completes "MLflow failed to ..."."""
        client = self._client
        with _asking(doing, self._settings.tracking_uri()):
            yield client


def safe_id(value: str) -> str:
    """The id unchanged, if it is safe in a query or a path.

    Raises:
        RegistryError: it contains anything but letters, digits, dots, dashes and underscores.
    """
    if not _SAFE_ID.fullmatch(value):
        raise RegistryError("this id can't be used", got=value, expected="letters, digits, dots, dashes, underscores")
    return value


def is_absent(error: Exception) -> bool:
    """Whether an error means that MLflow has no such model, version or alias."""
    return getattr(error, "error_code", None) in _ABSENT


def artifacts_of(run: Any, tracking_uri: str) -> Any:
    """The store of a run's artifacts, which MLflow's client only adds to."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking_uri)


def metric(name: str, value: float, when_ms: int, step: int) -> Any:
    """A point of a curve, as MLflow's type."""
    from mlflow.entities import Metric

    return Metric(name, value, when_ms, step)


def run_tag(name: str, value: str) -> Any:
    """A tag of a run, as MLflow's type."""
    from mlflow.entities import RunTag

    return RunTag(name, value)


def _quieten() -> None:
    """Turn off MLflow's telemetry and progress bars, before it is imported and reads these variables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # By default it retries an unreachable server for minutes, and requests to our server would wait for it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _connect(uri: str) -> Any:
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it resets the level
    return MlflowClient(uri, registry_uri=uri)


@contextmanager
def _asking(doing: str, uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryError(
            f"MLflow failed to {doing}: {_without_password(str(error).strip().partition(chr(10))[0])}",
            remedy=f"Check that {_without_password(uri)} is reachable and writable (RANKLOOP_MLFLOW_TRACKING_URI).",
        ) from error


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
