"""Commands for whoever runs it for a team: init, reconnect, mlflow."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli.options import settings_from
from ml_backend.errors import EdgeError, LabelStudioError
from training.errors import ConfigError

if TYPE_CHECKING:
    from ml_backend.settings import Settings

POLL_S = 2.0


def init(
    wait: Annotated[float, typer.Option(min=0, help="How many seconds to wait for each part to answer.")] = 600.0,
) -> None:
    """Prepare a new installation, or a new release on an old one, and exit: once, before server and workers start.

    Creates the tables of jobs and versions, downloads the base model and registers it, and waits until Label Studio
    answers and accepts the key. Safe to repeat.

    Example: `rankloop init --wait 60`
    """
    from ml_backend.label_studio import Guard, refuse_open_bind

    settings = settings_from()
    Guard.from_settings(settings)
    refuse_open_bind(settings)
    for what, ready in (
        ("the job queue", lambda: _jobs(settings)),
        ("the registry of versions", lambda: _registry(settings)),
        ("Label Studio", lambda: _label_studio(settings)),
    ):
        typer.echo(f"{what}: {_once_ready(ready, wait)}")


def reconnect() -> None:
    """Give every connected project the backend's current credentials, after they were changed. Safe to repeat.

    Example: `rankloop reconnect`, once the server runs with the new credentials and accepts the previous ones as well
    """
    from ml_backend.label_studio import BackendAddress, open_label_studio
    from ml_backend.label_studio import reconnect as connect_again

    settings = settings_from()
    with open_label_studio(settings) as label_studio:
        projects = connect_again(label_studio, BackendAddress.from_settings(settings))
    for project in projects:
        typer.echo(f"Project {project.id} {project.title!r} has the current credentials.")
    if not projects:
        typer.echo("No project is connected to this backend; connect one with: rankloop init-project")


def mlflow(
    host: Annotated[str, typer.Option(help="Address to listen on. These pages have no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
) -> None:
    """Serve MLflow's pages on versions, their metrics and curves, until Ctrl-C.

    Example: `rankloop mlflow --port 5001`
    """
    from ml_backend.processes import Children, told_to_end

    settings = settings_from()
    uri = settings.tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise ConfigError("the MLflow server has its own pages", got=uri, remedy="Open them there.")
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}  # not in the process list
    environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = (settings.home() / "mlartifacts").as_uri()
    typer.echo(f"MLflow's pages are at http://{host}:{port}; Ctrl-C stops them.", err=True)
    with Children(environment) as children, told_to_end(children.interrupt):
        children.start("mlflow", command)
        ended = children.wait()
    raise typer.Exit(0 if ended is None else 1)


def _once_ready(ready: Callable[[], str], wait_s: float) -> str:
    """The outcome of the first call that doesn't fail for a reason that may pass."""
    until = time.monotonic() + wait_s
    while True:
        try:
            return ready()
        except EdgeError as error:
            refused = isinstance(error, LabelStudioError) and error.status in {401, 403}
            if refused or time.monotonic() > until:
                raise
            typer.echo(f"waiting: {error.what}", err=True)
        time.sleep(POLL_S)


def _jobs(settings: Settings) -> str:
    from ml_backend.loop import Jobs

    jobs = Jobs(settings)
    try:
        jobs.cycles(limit=1)
    finally:
        jobs.close()
    return "its tables are there"


def _registry(settings: Settings) -> str:
    from ml_backend.registry import Registry

    registry = Registry(settings)
    registry.ensure_base()
    return f"{registry.current().name} is the champion"


def _label_studio(settings: Settings) -> str:
    from ml_backend.label_studio import open_label_studio

    with open_label_studio(settings) as label_studio:
        return f"{label_studio.release()} answers {label_studio.whoami()}"
