"""Label Studio as a child process, tested with small fakes of its command; the real one is in tests/e2e."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import psutil
import pytest

from ml_backend.demo.label_studio_server import LabelStudioServer
from ml_backend.errors import LabelStudioError
from training.errors import ConfigError

ANSWERING = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
arguments = dict(item.lstrip("-").split("=") for item in sys.argv[1:] if "=" in item)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        given = {name: value for name, value in os.environ.items() if name.startswith("LABEL_STUDIO_")}
        self.wfile.write(json.dumps(given).encode())
HTTPServer((arguments["internal-host"], int(arguments["port"])), Handler).serve_forever()
"""


def _command(folder: Path, body: str) -> Path:
    path = folder / "label-studio"
    path.write_text(f"#!{sys.executable}\n{body}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_missing_command_says_how_to_get_it(tmp_path: Path) -> None:
    """If Label Studio isn't installed, nothing is started and nothing written."""
    with (
        pytest.raises(ConfigError, match="make setup"),
        LabelStudioServer(tmp_path / "data", executable=tmp_path / "nothing"),
    ):
        pass
    assert not (tmp_path / "data").exists()


def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The error has the end of the log, so that nobody has to look for it."""
    command = _command(tmp_path, "import sys; print('the database is broken', file=sys.stderr); sys.exit(3)")
    with (
        pytest.raises(LabelStudioError, match=r"code 3(.|\n)*the database is broken"),
        LabelStudioServer(tmp_path / "data", executable=command),
    ):
        pass


def test_it_is_up_inside_the_context_and_gone_after_it(tmp_path: Path) -> None:
    """Entering waits for health; leaving with an exception stops the process too."""
    server = LabelStudioServer(tmp_path / "data", executable=_command(tmp_path, ANSWERING))
    seen: list[psutil.Process] = []

    def fail_inside() -> None:
        with server:
            ours = [each for each in psutil.Process().children() if str(tmp_path / "data") in " ".join(each.cmdline())]
            seen.extend(ours)
            assert server.token not in " ".join(ours[0].cmdline())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert len(seen) == 1
    assert not seen[0].is_running()


def test_credentials_stay_those_of_the_first_start(tmp_path: Path) -> None:
    """A data folder's password and 40-character token are created once, and readable only by its owner."""
    command = _command(tmp_path, ANSWERING)
    seen = []
    for _ in range(2):
        with LabelStudioServer(tmp_path / "data", executable=command) as server:
            seen.append((server.password, server.token))
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == 40
    kept = tmp_path / "data" / "credentials.json"
    assert json.loads(kept.read_text())["token"] == seen[0][1]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
