"""The server process: gunicorn running the app, with the model and its threads in one worker process.

With one process and many threads, the champion is in memory once and all requests share its queue. Models, MLflow and
DBOS are used only after gunicorn has forked, since none of them survives a fork.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from ml_backend.http.app import create_app
from ml_backend.http.edge import SECURITY_HEADERS
from ml_backend.label_studio import refuse_open_bind
from ml_backend.loop import Jobs
from ml_backend.processes import configure_logging
from ml_backend.registry import Registry
from ml_backend.serving import Proposer
from ml_backend.settings import Settings
from training.errors import RankloopError

THREADS = 128
"""Concurrent requests. A waiting request holds a thread, and health must always find a free one: `app` admits at most
48 that predict, 40 that pass on a webhook, 4 that read, 14 for pages and 16 held back after a failed login."""
SWITCH_S = 0.0005
"""How long a thread may hold the interpreter lock while others want it. A request takes the lock a dozen times, each
time from the thread that samples answers; with Python's default of 5 ms that adds up.
"""
GRACE_S = 10
"""How long running requests may take once the server is told to stop."""
_APP_LOAD_ERROR = 4  # gunicorn's own code for "stop, don't start another worker"

logger = logging.getLogger(__name__)


class _Log(Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """Sends gunicorn's own log lines to our log, in its format."""

    def setup(self, cfg: Any) -> None:
        """Set the level; the root logger has the handler."""
        self.loglevel = self.LOG_LEVELS[cfg.loglevel]
        self.error_log.setLevel(self.loglevel)
        self.error_log.propagate = True


class _Threads(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """Gunicorn's threads, with our answer to what isn't HTTP, which never reaches the app."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer with JSON and the headers of every answer; gunicorn's own would be a page without them."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        logger.warning("a request that isn't valid HTTP was refused: %s", type(exc).__name__)
        body = b'{"error":"the request isn\'t valid HTTP."}\n'
        headers = {**SECURITY_HEADERS, "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = ["HTTP/1.1 400 Bad Request", "Connection: close", *(f"{name}: {headers[name]}" for name in headers)]
        with suppress(OSError):
            client.send("\r\n".join([*lines, "", ""]).encode() + body)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """Gunicorn, configured only by our settings: it reads no command line and no configuration file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proposer: Proposer | None = None
        self._jobs: Jobs | None = None
        super().__init__()

    def load_config(self) -> None:
        """Configure gunicorn."""
        host = self._settings.host.strip("[]")
        options: dict[str, Any] = {
            "bind": f"[{host}]:{self._settings.port}" if ":" in host else f"{host}:{self._settings.port}",
            "workers": 1,
            "worker_class": _Threads,
            "threads": THREADS,
            "timeout": 120,
            "graceful_timeout": GRACE_S,
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Log,
            "proc_name": "rankloop",
            "worker_exit": self._end,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the app in the worker process and start loading the champion."""
        sys.setswitchinterval(SWITCH_S)
        try:
            registry = Registry(self._settings)
            self._proposer, self._jobs = Proposer(registry, self._settings), Jobs(self._settings)
            app = create_app(self._settings, self._proposer, self._jobs, registry)
        except RankloopError as error:
            logger.error("the server can't start: %s", error)  # noqa: TRY400  # a readable sentence, no traceback
            sys.exit(_APP_LOAD_ERROR)
        self._proposer.start()
        return app

    def _end(self, _arbiter: object, _worker: object) -> None:
        if self._jobs is not None:
            self._jobs.close()
        if self._proposer is not None:
            self._proposer.stop()


def run_server(settings: Settings) -> NoReturn:
    """Serve until SIGTERM or SIGINT; exits with SystemExit, as gunicorn does.

    Raises:
        ConfigError: the settings would leave the backend open to the network.
    """
    refuse_open_bind(settings)
    configure_logging(settings.log_format)
    logger.info("rankloop's ML backend listens on %s:%d", settings.host, settings.port)
    logger.info("what the loop does, in a browser: %s", settings.page_url())
    Server(settings).run()
    sys.exit(0)
