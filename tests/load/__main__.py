"""`make load`: one real server under fifty annotators, 100 webhooks a second and a predict of 5,000 tasks, while a
training cycle is running. Before that, one worker on a project of 100,000 tasks. Prints percentiles, errors, requests
and memory, and writes load.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults.annotators import Annotators, Judged
from faults.ledger import Ledger

from load.client import basic
from load.figures import as_table, missed, summary
from load.size import measure_size
from ml_backend.demo.stack import DemoStack
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.setup import init_project
from ml_backend.loop.child import read_progress
from ml_backend.loop.client import Jobs
from ml_backend.processes.tether import tethered
from training.config import CycleConfig

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "ml_backend" / "demo" / "data" / "model"
PROMPTS = ROOT / "ml_backend" / "demo" / "data" / "prompts.txt"
PEOPLE = 50
THINK_S = 10.0
"""A judgement takes some ten seconds, so that fifty people open five tasks a second."""
WEBHOOKS_PER_SECOND = 100
BULK_TASKS = 5000
JUDGED = 32
ITERATIONS = 5000
"""PPO that outlasts the whole test; it is stopped with the stack."""
_DONE_WITHIN_S = 120.0


def training_config(path: Path) -> Path:
    """The demo's own training, with open gates, endless."""
    settings = CycleConfig.for_model(str(MODEL)).model_dump()
    settings["reward"] |= {"epochs": 1}
    settings["ppo"] |= {"iterations": ITERATIONS}
    settings["gates"] |= {"min_preferences": 5, "min_reward_accuracy": 0.0}
    CycleConfig.model_validate(settings).save(path)
    return path


def open_project(stack: DemoStack) -> tuple[Judged, str]:
    """A connected project with enough judgements for a cycle, and its labeling configuration."""
    with LabelStudio(stack.label_studio.url, stack.label_studio.token) as label_studio:
        ready = init_project(label_studio, BackendAddress.from_settings(stack.settings), title="load")
    project = Judged(ready.project.id)
    annotators = Annotators(stack.label_studio.url, stack.label_studio.token, Ledger())
    annotators.fill(project, judged=JUDGED)
    annotators.close()
    return project, ready.project.label_config


def start_training(stack: DemoStack, jobs: Jobs, project: Judged) -> str:
    """Start a cycle, and wait until it has reached PPO. Returns its id."""
    asked = jobs.start_training(project.id)
    if asked["job"] is None:
        raise RuntimeError(asked["message"])
    job = str(asked["job"])
    ppo = stack.settings.home() / "cycles" / job / "ppo"

    def trains() -> bool:
        cycle = jobs.wait(job, timeout_s=0)
        if cycle.ended:
            raise RuntimeError(f"the cycle is over before the load: {cycle}")
        return read_progress(ppo) is not None

    stack.wait_until(trains, "PPO has begun")
    return job


def orders(stack: DemoStack, project: Judged, label_config: str, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """The orders of the client processes."""
    settings = stack.settings
    user, password = settings.basic_auth_user or "", settings.basic_auth_pass
    uid = f"{project.id}.1795380917"
    setup = {
        "project": uid,
        "schema": label_config,
        "hostname": stack.label_studio.url,
        "access_token": "unused",
        "extra_params": None,
    }
    params = {"login": None, "password": None, "context": None}
    annotation = {"id": 1, "task": 1, "result": [], "was_cancelled": False, "completed_by": 1}
    webhook = {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "task": {"id": 1, "data": {"prompt": "What is tea?"}},
        "project": {"id": project.id, "title": "load", "label_config": label_config},
    }
    common = {
        "host": "127.0.0.1",
        "port": settings.port,
        "seconds": seconds,
        "headers": basic(user, password.get_secret_value() if password else ""),
        "prompts": PROMPTS.read_text(encoding="utf-8").splitlines(),
        "bodies": {
            "setup": setup,
            "webhook": webhook,
            "predict": {"project": uid, "label_config": label_config, "params": params},
        },
    }
    roles: list[dict[str, Any]] = [
        {"role": "probe"},
        {"role": "webhooks", "rate": WEBHOOKS_PER_SECOND},
        {"role": "annotators", "people": PEOPLE, "think_s": THINK_S},
        {"role": "bulk", "tasks": BULK_TASKS},
    ]
    return [{**common, **role, "samples": str(folder / f"{role['role']}.samples")} for role in roles]


def drive(planned: list[dict[str, Any]], folder: Path, seconds: float) -> list[tuple[str, float, str]]:
    """Run all clients at once. Returns their measurements."""
    processes = []
    for order in planned:
        path = folder / f"{order['role']}.json"
        path.write_text(json.dumps(order), encoding="utf-8")
        command = tethered([sys.executable, "-m", "load.client", str(path)])
        processes.append(subprocess.Popen(command, cwd=Path(__file__).parents[1]))
    for process in processes:
        if process.wait(seconds + _DONE_WITHIN_S) != 0:
            raise RuntimeError("a client failed")
    return [tuple(sample) for order in planned for sample in json.loads(Path(order["samples"]).read_bytes())]


def run(folder: Path, seconds: float) -> dict[str, Any]:
    """Start everything, measure, stop everything."""
    began = time.monotonic()
    config = training_config(folder / "training.json")
    stack = DemoStack(folder / "stack", training_config=config, train_after=10_000, model_name="load")
    try:
        stack.start()
        stack.wait_until_up()
        jobs = Jobs(stack.settings)
        project, label_config = open_project(stack)
        job = start_training(stack, jobs, project)
        _say(f"a training cycle runs after {time.monotonic() - began:.0f} s; load for {seconds:.0f} s")
        ppo = stack.settings.home() / "cycles" / job / "ppo"
        before = read_progress(ppo)
        figures = summary(drive(orders(stack, project, label_config, seconds, folder), folder, seconds))
        cycle, after = jobs.wait(job, timeout_s=0), read_progress(ppo)
        jobs.close()
        iterations = after.step - before.step if before and after else 0
        trained = {"state": cycle.state, "step": cycle.step, "iterations_under_load": iterations}
        return {**figures, "cycle": trained, "load_seconds": seconds, "seconds": round(time.monotonic() - began)}
    finally:
        stack.stop()


def main() -> int:
    """Measure, then print and save the figures. Returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--report", type=Path, default=Path("load.json"), help="file for the figures")
    options.add_argument("--seconds", type=float, default=120.0, help="how long the load lasts")
    options.add_argument("--keep", action="store_true", help="leave data and logs behind")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rankloop-load-"))
    try:
        _say("a worker on a project of 100,000 tasks")
        size = measure_size(folder / "size", MODEL)
        figures = {**run(folder, given.seconds), **size}
    finally:
        if given.keep:
            _say(f"data and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    broken = missed(figures)
    if figures["cycle"]["state"] != "running" or not figures["cycle"]["iterations_under_load"]:
        broken.append("no training ran beside it")
    given.report.write_text(json.dumps({**figures, "missed": broken}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(as_table(figures) + "\n")
    sys.stdout.write("".join(f"{count} x {fault}\n" for fault, count in figures["faults"].items()))
    sys.stdout.write("".join(f"missed: {line}\n" for line in broken))
    sys.stdout.write(f"errors {figures['errors']}, training {figures['cycle']}\n")
    sys.stdout.write(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in size.items()) + "\n")
    return 1 if broken else 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
