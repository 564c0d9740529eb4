"""`rankloop up` and the commands around it, as a user types them, against a real Label Studio."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from ml_backend.label_studio.client import LabelStudio
from ml_backend.processes.ports import free_port

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RANKLOOP = [sys.executable, "-m", "ml_backend.cli"]
PROMPTS = "".join(f"What should I know about number {number}?\n" for number in range(6))


@pytest.fixture
def environment(label_studio_server: LabelStudioServer, tiny_model_dir: Path, tmp_path: Path) -> dict[str, str]:
    """A private backend: data folder, port, model and credentials."""
    return {
        **os.environ,
        "LABEL_STUDIO_URL": label_studio_server.url,
        "LABEL_STUDIO_API_KEY": label_studio_server.token,
        "BASIC_AUTH_USER": "ada",
        "BASIC_AUTH_PASS": "lovelace",
        "RANKLOOP_WEBHOOK_SECRET": "engine",
        "RANKLOOP_DATA_DIR": str(tmp_path / "data"),
        "RANKLOOP_PORT": str(free_port()),
        "RANKLOOP_MODEL": str(tiny_model_dir),
        "RANKLOOP_MODEL_NAME": "tiny",
        "RANKLOOP_MAX_NEW_TOKENS": "8",
    }


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `rankloop up` whose backend answers."""
    with (
        (tmp_path / "up.log").open("wb") as log,
        subprocess.Popen([*RANKLOOP, "up"], env=environment, stdout=log, stderr=log, cwd=tmp_path) as process,
    ):
        try:
            _until(lambda: _answers(environment["RANKLOOP_PORT"]), tmp_path / "up.log")
            yield process
        finally:
            process.terminate()


def _answers(port: str) -> bool:
    try:
        return httpx.get(f"http://localhost:{port}/health", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _until(condition: object, log: Path, within_s: float = 180) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.5)


def _rankloop(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RANKLOOP, *arguments], env=environment, cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )


def test_from_an_empty_folder_to_proposals_in_label_studio(
    up: subprocess.Popen[bytes], environment: dict[str, str], label_studio_server: LabelStudioServer, tmp_path: Path
) -> None:
    """init-project imports prompts, the worker answers them, the doctor finds no fault, and Ctrl-C stops everything."""
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    made = _rankloop(environment, tmp_path, "init-project", "--title", "Numbers", "--prompts", "prompts.txt")
    assert made.returncode == 0, made.stderr
    assert "Imported 6 prompts" in made.stdout

    with LabelStudio(label_studio_server.url, label_studio_server.token) as label_studio:
        project = label_studio.projects("Numbers")[0].id
        version = f"tiny.project-{project}-v1"
        _until(lambda: label_studio.predictions_by_version(project) == {version: 6}, tmp_path / "up.log")

    listed = _rankloop(environment, tmp_path, "versions")
    assert version in listed.stdout
    refused = _rankloop(environment, tmp_path, "train")
    assert refused.returncode == 1
    assert "needs at least" in refused.stdout

    examined = _rankloop(environment, tmp_path, "doctor")
    assert examined.returncode == 0, examined.stdout
    assert "wrong" not in examined.stdout
    other = {**environment, "BASIC_AUTH_PASS": "other"}
    examined = _rankloop(other, tmp_path, "doctor")
    assert examined.returncode == 1
    assert "refuses our credentials" in examined.stdout

    children = psutil.Process(up.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(60) == 0
    assert psutil.wait_procs(children, timeout=10)[1] == []
