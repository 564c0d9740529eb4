"""The demo's own Label Studio, server and worker, in a temporary folder; they start and stop together."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from ml_backend.demo.label_studio_server import START_TIMEOUT_S, LabelStudioServer
from ml_backend.label_studio import Guard
from ml_backend.processes import Children, free_port, log_tail, rankloop_command
from ml_backend.settings import Settings, load_settings
from training.errors import RankloopError

POLL_S = 0.5
GRACE_S = 10.0
"""How long server and worker may take to stop; unfinished work is discarded with their data."""


class DemoStack:
    """Three private servers, with their own data, ports and credentials.

    Start and stop it from the main thread: its processes end with the thread that started them.

    Args:
        folder: the folder for all files; deleted by `remove`.
        options: settings by name, overriding the demo's own.

    Attributes:
        settings: the settings of server and worker.
        label_studio: the Label Studio server.
        logs: a folder with one file per process.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.label_studio = LabelStudioServer(folder / "label-studio")
        self._options = options
        self._backend: Children | None = None
        self._settings: Settings | None = None
        self._kept = False

    @property
    def settings(self) -> Settings:
        """The settings of server and worker, available once they are started."""
        if self._settings is None:
            raise RankloopError("the demo's servers weren't started")
        return self._settings

    def start(self) -> None:
        """Start all three and return at once."""
        self.label_studio.start()
        chosen = {**self._own_settings(), **self._options}
        self._settings = load_settings(**chosen)
        self._backend = Children(environment_of(chosen), logs=self.logs)
        for name in ("serve", "worker"):
            self._backend.start(name, rankloop_command(name))

    def wait_until_up(self) -> None:
        """Wait until Label Studio and the backend answer.

        Raises:
            RankloopError: one of them exited or takes too long; includes the end of the logs.
        """
        self.label_studio.wait_until_up()
        with httpx.Client(timeout=5.0) as client:
            self.wait_until(lambda: self._backend_answers(client), "the ML backend answers")

    def wait_until(
        self, done: Callable[[], bool], what: str, *, timeout_s: float = START_TIMEOUT_S, every_s: float = POLL_S
    ) -> None:
        """Poll until a condition holds.

        Raises:
            RankloopError: a process exited, or the condition doesn't hold within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            self.pause(every_s)
            if time.monotonic() > deadline:
                raise RankloopError(f"timed out after {timeout_s:.0f} s, waiting until {what}", remedy=self._tails())

    def pause(self, seconds: float = POLL_S) -> None:
        """Sleep, watching the processes.

        Raises:
            RankloopError: one of the processes has exited.
        """
        self.label_studio.check()
        ended = self._backend.wait(seconds) if self._backend else None
        if ended is not None:
            name, code = ended
            raise RankloopError(f"rankloop {name} exited unexpectedly with code {code}", remedy=self._tails())

    def stop(self) -> None:
        """Stop all processes. Idempotent."""
        # Label Studio goes first: its idle connections would keep the server waiting.
        self.label_studio.stop()
        if self._backend is not None:
            self._backend.stop(GRACE_S)
            self._backend = None

    def keep(self) -> Path:
        """Turn `remove` into a no-op from now on. Returns the folder."""
        self._kept = True
        return self.folder

    def remove(self) -> None:
        """Delete the folder with all data and logs."""
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _own_settings(self) -> dict[str, Any]:
        port = free_port()
        return {
            "data_dir": self.folder / "home",
            "model_name": "rankloop",
            "label_studio_url": self.label_studio.url,
            "label_studio_api_key": self.label_studio.token,
            "host": "127.0.0.1",
            "port": port,
            "backend_url": f"http://localhost:{port}",
            "basic_auth_user": "label-studio",
            "basic_auth_pass": secrets.token_urlsafe(16),
            "webhook_secret": secrets.token_urlsafe(16),
            "mlflow_tracking_uri": "",
            "database_url": "",
            "champion_poll_s": 1.0,
            "debounce_s": 2.0,
            "reconcile_cron": "* * * * *",
        }

    def _backend_answers(self, client: httpx.Client) -> bool:
        try:
            status = client.get(f"{self.settings.public_url()}/status", auth=Guard.from_settings(self.settings).basic)
        except httpx.TransportError:
            return False
        return status.status_code == httpx.codes.OK and status.json()["loaded"] is not None

    def _tails(self) -> str:
        tails = [f"The end of {path}:\n{log_tail(path)}" for path in sorted(self.logs.glob("*.log"))]
        return "\n".join(tails)


def environment_of(chosen: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables with which `load_settings` gives the same settings in another process."""
    aliased = {name for name, field in Settings.model_fields.items() if field.validation_alias is not None}
    return {
        name.upper() if name in aliased else f"RANKLOOP_{name.upper()}": str(value) for name, value in chosen.items()
    }
