"""A private PostgreSQL server for a test, on a free port, from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import free_port

START_TIMEOUT_S = 60.0
USER = "rankloop"


class PostgresServer:
    """A server that runs while the context is open; its data is removed afterwards.

    PostgreSQL refuses to run as root, so under root it runs as Debian's account `postgres`, else as `nobody`. On Linux
    it ends with the process that started it, however that one ends.

    Args:
        binaries: the folder of `postgres` and `initdb`, from `find_binaries`.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="rankloop-postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "postgres.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            account = _account()
            if account:
                shutil.chown(self._folder, account)
            self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def url(self, database: str, driver: str = "postgresql") -> str:
        """A database's URL; DBOS creates the database itself, MLflow needs `create` first."""
        return f"{driver}://{USER}@127.0.0.1:{self._port}/{database}"

    def create(self, database: str) -> None:
        """Create an empty database."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", USER, database)

    def start(self) -> None:
        """Start it, and wait until it accepts clients."""
        command = [self._binaries / "postgres", "-D", self._data, "-k", self._folder, "-p", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_account("INT"), *command, "-c", "listen_addresses=127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port), "-U", USER]
        until = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(ready, check=False).returncode != 0:
            try:
                code = self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                code = None
            if code is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL doesn't start (exit code {code}):\n{log_tail(self._log)}")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it: SIGINT disconnects all clients; SIGQUIT is a crash, after which it replays its journal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop it, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [*_as_account("KILL"), self._binaries / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)


def find_binaries() -> Path | None:
    """The folder with the programs of the newest installed PostgreSQL server, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _account() -> str | None:
    """The account that the server runs as if we are root, as which it refuses to run."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as_account(last_signal: str) -> list[str]:
    """The prefix that runs a command as that account and signals it when this process dies."""
    if not shutil.which("setpriv"):
        return []
    command = ["setpriv", "--pdeathsig", last_signal]
    account = _account()
    if account:
        entry = pwd.getpwnam(account)
        command += ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups"]
    return command
