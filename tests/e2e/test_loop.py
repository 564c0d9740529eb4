"""The whole loop on real servers, and an interrupted demo, which must leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from ml_backend.demo.annotator import SimulatedAnnotator, annotate_round
from ml_backend.demo.loop import DemoLoop
from ml_backend.demo.screen import Screen
from ml_backend.label_studio.client import LabelStudio
from ml_backend.lines import own_line
from ml_backend.loop.client import Jobs
from ml_backend.registry.registry import Registry
from training.data.files import read_preferences

if TYPE_CHECKING:
    from ml_backend.demo.stack import DemoStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROMPTS = Path(__file__).parents[2] / "ml_backend" / "demo" / "data" / "prompts.txt"
JUDGEMENTS = 30

# `rankloop demo` in a known folder, with Label Studio's tables already created.
DEMO = """
import sys, tempfile
from pathlib import Path
import ml_backend.cli.app
folder = sys.argv[1]
tempfile.mkdtemp = lambda **_: folder
sys.argv = ["rankloop", "demo", "--annotations", "30"]
ml_backend.cli.app.main()
"""


def _longer(_prompt: str, answer1: str, answer2: str) -> Any:
    """A taste with hardly any ties."""
    if len(answer1) == len(answer2):
        return "tie"
    return "1" if len(answer1) > len(answer2) else "2"


def test_judgements_become_a_version_whose_answers_reach_the_labeling_page(stack: DemoStack, tmp_path: Path) -> None:
    """Webhook, cycle, promotion, new predictions: nothing is started by hand, and every judgement is used."""
    prompts = tmp_path / "prompts.txt"
    chosen = PROMPTS.read_text(encoding="utf-8").splitlines()[::5]  # some of every split
    prompts.write_text("\n".join(chosen), encoding="utf-8")
    registry, jobs = Registry(stack.settings), Jobs(stack.settings)
    with LabelStudio(stack.label_studio.url, stack.label_studio.token) as label_studio, Screen() as screen:
        loop = DemoLoop(stack, label_studio, _longer, JUDGEMENTS, screen)
        project = loop.open_project(prompts)
        line = own_line(project.id)
        first, second = f"rankloop.{line}-v1", f"rankloop.{line}-v2"
        assert label_studio.predictions_by_version(project.id) == {first: len(chosen)}
        assert [cycle.job for cycle in jobs.cycles()] == []

        loop.go_round(1, project)

        base, better = registry.versions(line)
        assert (base.name, better.name, better.parent) == (first, second, first)
        champion = registry.champion(line)
        assert champion is not None
        assert champion.name == second
        assert [(cycle.state, cycle.project_id) for cycle in jobs.cycles()] == [("promoted", project.id)]

        judged = [
            annotation
            for task in label_studio.export_tasks(project.id)
            for annotation in task["annotations"]
            if not annotation["was_cancelled"]
        ]
        used = read_preferences(registry.fetch(better) / "preferences.jsonl")
        assert len(judged) == JUDGEMENTS == better.metrics["judgements"] == sum(item.votes for item in used)
        assert {item.source.chosen_version for item in used} == {first}
        assert {i for item in used for i in item.source.annotation_ids} == {annotation["id"] for annotation in judged}

        still_open = {task["id"] for task in label_studio.open_tasks(project.id)}
        shown = [row for row in label_studio.predictions(project.id) if row["model_version"] == second]
        assert {row["task"] for row in shown} == still_open
        assert len(shown) == len(still_open) > 0
        stack.wait_until(lambda: _loaded(stack) == second, "the server answers with the new version")

        annotate_round(label_studio, project, second, SimulatedAnnotator(_longer), 3, lambda *_: None)
        assert label_studio.count_judgements_since(project.id, None) == JUDGEMENTS + 3


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting"),
        (signal.SIGTERM, "annotating"),
        (signal.SIGINT, "training"),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(
    number: signal.Signals, moment: str, label_studio_template: Path, tmp_path: Path
) -> None:
    """An interrupt at any phase leaves no process and no folder, and prints one line that says so."""
    folder = tmp_path / "demo"
    shutil.copytree(label_studio_template, folder / "label-studio")
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen([sys.executable, "-c", DEMO, str(folder)], stdout=output, stderr=output)
    try:
        _until(_MOMENTS[moment], demo, folder, log)
        mine = psutil.Process(demo.pid).children(recursive=True)
        assert len(mine) >= 3
        demo.send_signal(number)
        assert demo.wait(60) == 130
    finally:
        demo.kill()
        demo.wait()
    assert psutil.wait_procs(mine, timeout=5)[1] == []
    assert _processes_of(folder) == {}
    assert not folder.exists()
    assert log.read_text().splitlines()[-1].startswith("Interrupted. ")


def _loaded(stack: DemoStack) -> Any:
    password = stack.settings.basic_auth_pass
    assert password
    auth = (stack.settings.basic_auth_user or "", password.get_secret_value())
    return httpx.get(f"{stack.settings.public_url()}/status", auth=auth).json()["loaded"]


def _processes_of(folder: Path) -> dict[int, str]:
    """Process ids and commands of all processes with the folder's name in their command or environment."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            texts = [command, *process.environ().values()]
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in texts):
            found[process.pid] = command
    return found


def _all_started(folder: Path, _log: Path) -> bool:
    return len(_processes_of(folder)) >= 4


def _annotating(_folder: Path, log: Path) -> bool:
    return "Importing prompts" in log.read_text()


def _training(folder: Path, _log: Path) -> bool:
    return any("-m training" in command for command in _processes_of(folder).values())


_MOMENTS: dict[str, Callable[[Path, Path], bool]] = {
    "starting": _all_started,
    "annotating": _annotating,
    "training": _training,
}


def _until(so: Callable[[Path, Path], bool], demo: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    deadline = time.monotonic() + 400
    while not so(folder, log):
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
