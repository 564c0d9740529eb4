"""The server process: what it refuses, its configuration, and that it starts, answers and stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gunicorn.workers.gthread import ThreadWorker

from ml_backend.http.serve import Server, run_server
from ml_backend.settings import load_settings
from training.errors import ConfigError

SERVE = (
    "from ml_backend.http import run_server; from ml_backend.settings import load_settings; run_server(load_settings())"
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310  # http
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def test_it_does_not_open_itself_to_the_network(settings: Any) -> None:
    """Listening beyond this machine without credentials is refused before anything starts."""
    with pytest.raises(ConfigError, match="BASIC_AUTH_USER"):
        run_server(load_settings(**{**settings.model_dump(), "host": "0.0.0.0"}))  # noqa: S104  # it refuses


@pytest.mark.parametrize(
    ("host", "bind"), [("127.0.0.1", "127.0.0.1:9090"), ("::1", "[::1]:9090"), ("[::1]", "[::1]:9090")]
)
def test_one_process_with_many_threads(settings: Any, host: str, bind: str) -> None:
    """The model is in memory once; gunicorn gets a valid address, and leaves no control socket behind."""
    server = Server(load_settings(**{**settings.model_dump(), "host": host}))
    assert server.cfg.settings["bind"].value == [bind]
    assert server.cfg.workers == 1
    assert issubclass(server.cfg.worker_class, ThreadWorker)
    assert server.cfg.control_socket_disable


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:9090/"),
        ("0.0.0.0", "http://localhost:9090/"),  # noqa: S104  # read, not bound
        ("[::1]", "http://localhost:9090/"),
        ("2001:db8::1", "http://[2001:db8::1]:9090/"),
        ("loop.example", "http://loop.example:9090/"),
    ],
)
def test_the_page_s_address_can_be_opened(settings: Any, host: str, url: str) -> None:
    """What is printed at the start is an address for a browser, wherever the server listens."""
    assert load_settings(**{**settings.model_dump(), "host": host}).page_url() == url


@pytest.mark.slow
def test_a_real_server_starts_answers_and_ends(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Health is up within seconds, the base is registered and loaded, and SIGTERM stops it with code 0."""
    port = _free_port()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "RANKLOOP_DATA_DIR": str(tmp_path),
        "RANKLOOP_MODEL": str(tiny_model_dir),
        "RANKLOOP_DEVICE": "cpu",
        "RANKLOOP_MAX_NEW_TOKENS": "8",
        "RANKLOOP_PORT": str(port),
        "RANKLOOP_LOG_FORMAT": "json",
        "OMP_NUM_THREADS": "1",
    }
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            _wait_for(url, server, "rankloop.project-1-v1")
            config = (Path(__file__).parents[4] / "label_config.xml").read_text(encoding="utf-8")
            tasks = [{"id": 1, "data": {"prompt": "What is tea?"}}, {"id": 2, "data": {}}]
            answer = _ask(f"{url}/predict", {"tasks": tasks, "project": "1.2", "label_config": config})
            assert [len(result["result"]) for result in answer["results"]] == [2, 0]
            assert _ask(f"{url}/versions") == {"versions": ["rankloop.project-1-v1"]}
            with urllib.request.urlopen(f"{url}/metrics", timeout=60) as scraped:  # noqa: S310  # http
                assert b'rankloop_part_up{part="registry"} 1.0' in scraped.read()
            nonsense = _nonsense(port)
            assert nonsense.startswith(b"HTTP/1.1 400")
            assert b"\r\nContent-Security-Policy: default-src 'none';" in nonsense
            assert b"Server:" not in nonsense
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                _, log = server.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    assert server.returncode == 0, log
    assert "Traceback" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (predicted,) = [line for line in lines if line.get("route") == "/predict"]
    assert (predicted["status"], predicted["tasks"], predicted["project"]) == (200, 2, 1)
    (refused,) = [line for line in lines if line["logger"] == "ml_backend.http.serve" and "valid HTTP" in line["event"]]
    assert "request_id" not in refused
    assert "What is tea?" not in log


def _nonsense(port: int) -> bytes:
    """The answer to data that isn't HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        return connection.recv(1000)


def _wait_for(url: str, server: subprocess.Popen[str], version: str) -> None:
    """Wait until `/setup` names the version."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        assert server.poll() is None, server.communicate()[1]
        try:
            assert _ask(f"{url}/health")["status"] == "UP"
            if _ask(f"{url}/setup", {"project": "1.2"})["model_version"] == version:
                return
        except urllib.error.URLError:
            pass  # it isn't listening yet
        time.sleep(0.1)
    pytest.fail(f"{version} wasn't loaded in time")
