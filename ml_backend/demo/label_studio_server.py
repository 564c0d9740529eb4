"""A real Label Studio in a child process, for the demo and the tests; reachable only from this machine."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from pathlib import Path
from typing import Self

import httpx

from ml_backend.errors import LabelStudioError
from ml_backend.processes import Children, free_port, log_tail
from ml_backend.settings import load_settings
from training.atomic import write_atomically
from training.errors import ConfigError

START_TIMEOUT_S = 300.0
"""The first start creates the database: half a minute on an idle machine, several on a loaded one."""
POLL_S = 0.2

NAME = "label-studio"
LOG_FILE = f"{NAME}.log"
CREDENTIALS_FILE = "credentials.json"
USERNAME = "annotator@example.com"

# Quiet, offline, and allowed to call an ML backend on this machine, which Label Studio refuses by default.
ENVIRONMENT = {
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "PYTHONUNBUFFERED": "1",
}


class LabelStudioServer:
    """A Label Studio that runs while the context is entered, and never outlives this process.

    Args:
        data_dir: its data folder; created if missing, reused if not.
        port: the port on 127.0.0.1; None finds a free one.
        executable: the `label-studio` command; None takes it from the settings, or else looks beside the checkout.

    Attributes:
        url: the server's address.
        username: the owner of all its data.
        password: for the login page.
        token: legacy API token, 40 characters.
        log: the file with the server's output.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, executable: Path | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.log = data_dir / LOG_FILE
        self._executable = executable
        self._children: Children | None = None
        self.username, self.password, self.token = USERNAME, "", ""

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

    def start(self) -> int:
        """Start the process and return its id, without waiting until it answers.

        Raises:
            ConfigError: there is no Label Studio to start.
        """
        executable = find_executable(self._executable)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.username, self.password, self.token = _credentials(self.data_dir)
        # Credentials only matter at the first start; after that the database has them.
        credentials = {
            "LABEL_STUDIO_USERNAME": self.username,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        }
        environment = {**ENVIRONMENT, **credentials, "LABEL_STUDIO_HOST": self.url}
        self._children = Children(environment, logs=self.data_dir)
        options = ["--no-browser", "--internal-host=127.0.0.1", f"--port={self.port}", "--log-level=WARNING"]
        return self._children.start(NAME, [str(executable), "start", f"--data-dir={self.data_dir}", *options])

    def wait_until_up(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the server answers.

        Raises:
            LabelStudioError: it exited, or doesn't answer in time; includes the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        with httpx.Client(timeout=5.0) as client:
            while not self._answers(client):
                self.check(POLL_S)
                if time.monotonic() > deadline:
                    raise self._failure(f"Label Studio doesn't answer after {timeout_s:.0f} s")

    def check(self, wait_s: float = 0.0) -> None:
        """Check that the server keeps running for `wait_s` seconds.

        Raises:
            LabelStudioError: it has exited, or was never started.
        """
        if self._children is None:
            raise LabelStudioError("Label Studio wasn't started")
        ended = self._children.wait(wait_s)
        if ended is not None:
            raise self._failure(f"Label Studio exited unexpectedly with code {ended[1]}")

    def stop(self) -> None:
        """Stop the server and its child processes, if it is running."""
        if self._children is not None:
            self._children.stop()
            self._children = None

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _failure(self, what: str) -> LabelStudioError:
        return LabelStudioError(what, remedy=f"The end of {self.log}:\n{log_tail(self.log)}")


def find_executable(given: Path | None = None) -> Path:
    """The `label-studio` command: the given one, or the setting's, or the one from `make setup`.

    Raises:
        ConfigError: it doesn't exist.
    """
    beside = Path(__file__).parents[2] / ".venv-label-studio" / "bin" / "label-studio"
    path = given or load_settings().label_studio_executable or beside
    found = shutil.which(path.expanduser())
    if found is None:
        raise ConfigError(
            "Label Studio isn't installed where it should be",
            got=str(path),
            remedy="Run `make setup`, or name the label-studio command with RANKLOOP_LABEL_STUDIO_EXECUTABLE.",
        )
    return Path(found).absolute()


def _credentials(data_dir: Path) -> tuple[str, str, str]:
    """Username, password and token, created at the data folder's first start."""
    path = data_dir / CREDENTIALS_FILE
    if not path.is_file():
        made = {"username": USERNAME, "password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
        write_atomically(path, json.dumps(made))
        path.chmod(0o600)
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept["username"], kept["password"], kept["token"]
