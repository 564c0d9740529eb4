"""A private MLflow server for a test: tracking, registry and artifacts over HTTP."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Self

import httpx

from ml_backend.processes.children import Children
from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import free_port

START_TIMEOUT_S = 180.0


class MlflowServer:
    """`mlflow server` on a free port, for as long as the context is open.

    Args:
        folder: its database, artifacts and log.
        store: where it keeps runs and versions; by default SQLite in the folder.
    """

    def __init__(self, folder: Path, store: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.artifacts = folder / "artifacts"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._store = store or f"sqlite:///{folder / 'mlflow.db'}"
        self._children: Children | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._store]
        command += ["--artifacts-destination", str(self.artifacts), "--host", "127.0.0.1"]
        self._children = Children({"MLFLOW_DISABLE_TELEMETRY": "true"}, logs=self._folder)
        self._children.start("mlflow", [*command, "--port", str(self._port), "--workers", "1"])

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(timeout=2.0) as client:
            while not self._answers(client):
                ended = self._children.wait(0.2) if self._children else ("mlflow", 0)
                if ended or time.monotonic() > until:
                    raise RuntimeError(f"MLflow doesn't start:\n{log_tail(self._folder / 'mlflow.log')}")

    def stop(self) -> None:
        """Stop it, if it is running."""
        if self._children is not None:
            self._children.stop(5.0)
            self._children = None

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
