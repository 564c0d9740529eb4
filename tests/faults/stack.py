"""A server and a worker on one data folder, which can be killed and restarted at any time."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from faults.annotators import LABEL_CONFIG, Annotators, Judged, Visitor
from faults.dying_worker import PLAN, READY
from faults.faulty_proxy import FaultyProxy
from faults.killable import Killable, brief_training
from faults.ledger import Ledger, Outcome
from ml_backend.demo.label_studio_server import LabelStudioServer
from ml_backend.demo.stack import environment_of
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress
from ml_backend.label_studio.credentials import SECRET_HEADER, Guard
from ml_backend.label_studio.setup import init_project
from ml_backend.lines import own_line
from ml_backend.loop.client import CycleJob, Jobs
from ml_backend.processes.children import rankloop_command
from ml_backend.processes.logs import log_tail
from ml_backend.processes.ports import free_port
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import load_settings
from training.atomic import write_atomically
from training.data.files import read_preferences
from training.errors import RankloopError

JUDGED_BEFORE = 18
JUDGED_NOW = 6
TRAIN_AFTER = JUDGED_BEFORE + JUDGED_NOW
CYCLE_TIMEOUT_S = 600.0
WAIT_S = 600.0
POLL_S = 0.03
VISIT_EVERY_S = 0.7
RETRY_AFTER_S = 4.0
QUIET_S = 11.0
"""Long enough for two reconciliations to start what they shouldn't."""

Found = TypeVar("Found")


class Stack:
    """The servers for one series of faults.

    Args:
        name: the name of its folder and projects.
        home: its folder.
        label_studio: the real server.
        ledger: records what happens.
        options: settings that override the stack's own.
    """

    def __init__(
        self, name: str, home: Path, label_studio: LabelStudioServer, ledger: Ledger, **options: object
    ) -> None:
        self.name = name
        self.home = home / "data"
        self.home.mkdir(parents=True)
        self.ledger = ledger
        self.proxy = FaultyProxy(label_studio.url)
        self.training = home / "training.json"
        self.train_for(2)
        chosen: dict[str, Any] = {
            "data_dir": self.home,
            "device": "cpu",
            "max_new_tokens": 8,
            "label_studio_url": self.proxy.url,
            "label_studio_api_key": label_studio.token,
            "port": free_port(),
            "basic_auth_user": "faults",
            "basic_auth_pass": "fault-password",  # Start Training carries these, and no secret
            "webhook_secret": "fault-secret",
            "champion_poll_s": 1.5,  # so that a swap lasts long enough to be killed in it
            "debounce_s": 0.3,
            "train_after": TRAIN_AFTER,
            "reconcile_cron": "*/5 * * * * *",
            "retry_after_s": RETRY_AFTER_S,
            "training_config": self.training,
            **options,
        }
        self.settings = load_settings(**chosen)
        self._chosen, self._logs = chosen, home
        self.server = Killable("serve", rankloop_command("serve"), environment_of(chosen), home)
        self.worker = self.new_worker("worker")
        self.jobs, self.registry = Jobs(self.settings), Registry(self.settings)
        self.annotators = Annotators(label_studio.url, label_studio.token, ledger)
        self._studio = LabelStudio(label_studio.url, label_studio.token)
        self._visitor = Visitor(Annotators(label_studio.url, label_studio.token, ledger), VISIT_EVERY_S)
        basic = Guard.from_settings(self.settings).basic
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.settings.port}", auth=basic, timeout=5.0)
        self._before: Judged | None = None
        self.projects: list[Judged] = []
        self.line = "default"

    def new_worker(self, name: str, **options: object) -> Killable:
        """A worker with the stack's settings, and these instead of its own. It isn't started yet."""
        chosen = {**self._chosen, **options}
        environment = {**environment_of(chosen), "PYTHONPATH": str(Path(__file__).parents[1])}
        return Killable(name, [sys.executable, "-m", "faults.dying_worker"], environment, self._logs)

    def start(self) -> None:
        """Start everything, and wait until the first version answers."""
        self.proxy.__enter__()
        self.server.start()
        self.until(lambda: self.registry.champion() is not None, "the base is registered")
        self.worker.start()
        self.await_server()
        self.until(lambda: READY in self.worker.log.read_text(encoding="utf-8"), READY)
        self._visitor.start()

    def stop(self) -> None:
        """Stop everything."""
        if self._visitor.is_alive():
            self._visitor.end()
        for process in (self.server, self.worker):
            process.kill()
        self.jobs.close()
        self._studio.close()
        self.annotators.close()
        self.proxy.__exit__()

    def recover(self) -> None:
        """Recover after a failed scenario: everything runs, no kill is planned, no cycle blocks the next one, and its
        project is gone.
        """
        self.plan_kills([])
        self.train_for(2)
        for process in (self.server, self.worker):
            if not process.running or process.died(0.1):
                process.start()
        self.until(lambda: all(cycle.ended for cycle in self.jobs.cycles()), "no cycle runs")
        if self.projects and self.projects[-1] is not self._before:  # later scenarios aren't meant for it
            self.forget_last()
            self._before = self.projects[-1]
        self.forget_last()

    def train_for(self, iterations: int) -> None:
        """Let the next cycle's PPO run this many iterations, with a checkpoint after each."""
        write_atomically(self.training, json.dumps(brief_training(iterations)))

    def open_project(self, title: str, *, label_config: str | None = None, train_after: int = TRAIN_AFTER) -> Judged:
        """A project with six judgements fewer than a cycle requires.

        Args:
            title: its title.
            label_config: what its label config is changed to before anybody judges.
            train_after: how many new judgements start a cycle.
        """
        ready = init_project(
            self._studio,
            BackendAddress.from_settings(self.settings),
            title=f"{self.name}: {title}",
            label_config=LABEL_CONFIG,
            extra_params={"train_after": train_after},
        )
        project = Judged(ready.project.id)
        self.line = own_line(project.id)
        self.projects.append(project)
        if label_config:
            self.annotators.switch(project, label_config=label_config)
        self.annotators.fill(project, judged=JUDGED_BEFORE)
        self._visitor.visit(project)
        return project

    def nobody_looks(self) -> None:
        """Let the second annotator open no more tasks, and wait until the last one is open."""
        self._visitor.visit(None)
        until = time.monotonic() + 3 * VISIT_EVERY_S
        self.until(lambda: time.monotonic() > until, "the last task is open")

    def reconnect(self, project: Judged) -> None:
        """Connect the backend to a project again."""
        init_project(self._studio, BackendAddress.from_settings(self.settings), project_id=project.id)

    def add_version(self) -> Version:
        """One more version of the project's line: its champion's files under another name. It isn't promoted."""
        champion = self.registry.current(self.line)
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            copy = Path(folder) / "version"
            shutil.copytree(self.registry.fetch(champion), copy)
            run = self.registry.start_cycle_run(0, f"by-hand-{self.line}-{time.time_ns()}", {"line": self.line})
            tags = {"kind": "by hand"}
            made = self.registry.register(copy, run_id=run, parent=champion.name, metrics={}, tags=tags, line=self.line)
        self.registry.finish_run(run, "refused", "made by hand")
        return made

    def looks(self, project: Judged) -> list[str]:
        """What the project's line is waiting for, as `rankloop status` says it."""
        found = self.jobs.status()["waiting"]
        return [look["why"] for look in found if project.id in [number for number, _ in look["projects"]]]

    def stays_quiet(self, project: Judged) -> None:
        """Check that no further cycle of the project starts for a while."""
        until = time.monotonic() + QUIET_S
        self.until(lambda: time.monotonic() > until, "time has passed")
        states = [cycle.state for cycle in self.cycles(project.id)]
        if len(states) > project.attempts:
            raise AssertionError(f"project {project.id} has a reason for {project.attempts} cycles, but has {states}")

    def webhook_headers(self, project: Judged, headers: dict[str, str]) -> None:
        """Make the project's webhook send these headers."""
        for webhook in self._studio.webhooks(project.id):
            self._studio.update_webhook(webhook, headers)

    def plan_kills(self, kills: Sequence[tuple[str, str]]) -> None:
        """Plan for the worker to kill itself at these moments."""
        write_atomically(self.home / PLAN, json.dumps(kills))

    def left_kills(self) -> int:
        """How many of the planned kills haven't happened yet."""
        return len(json.loads((self.home / PLAN).read_bytes()))

    def cycle(self, project: Judged) -> CycleJob:
        """The project's training cycle, once it has one."""
        return self.until(lambda: next(iter(self.cycles(project.id)), None), "a cycle was started")

    def cycles(self, project_id: int) -> list[CycleJob]:
        """All training cycles of a project."""
        return [cycle for cycle in self.jobs.cycles(200) if cycle.project_id == project_id]

    def folder(self, cycle: CycleJob) -> Path:
        """The folder of a cycle's files."""
        return self.home / "cycles" / cycle.job

    def close(self, project: Judged, tried: dict[str, int], ends: str = "promoted") -> Outcome:
        """Wait for the project's latest cycle, compare the judgements with those its version used, and record the
        result. `ends` is how the cycle must end.
        """
        job = self.cycle(project).job
        with suppress(TimeoutError):  # a cycle that doesn't end is recorded as such
            self.until(lambda: self.jobs.wait(job, timeout_s=0).ended, "the cycle has ended", CYCLE_TIMEOUT_S)
        cycle = self.jobs.wait(job, timeout_s=0)
        note = "" if cycle.state == ends else f"{cycle.state} at {cycle.step}: {cycle.reason}"
        used, wrong = self._used(cycle, project)
        if not note:
            self.await_server()
        made = len(project.preferred)
        outcome = Outcome(cycle.job, not note, made, used, made - used + wrong, note or f"{wrong} wrong")
        self.ledger.record(tried, outcome)
        self._visitor.visit(None)
        # kept until the next one is over, so that a second cycle would have time to start
        self.forget_last()
        self._before = project
        return outcome

    def forget_last(self) -> None:
        """Delete the project that was closed last."""
        if self._before is not None:
            self._studio._sdk.projects.delete(self._before.id)
            self._before = None

    def await_server(self) -> None:
        """Wait until the server answers with the champion of the project's line, which must be intact."""
        champion = self.until(lambda: self.registry.champion(self.line), "there is a champion")
        self.registry.fetch(champion)
        self.until(lambda: self.status().get("loaded") == champion.name, f"{champion.name} answers")

    def status(self) -> dict[str, Any]:
        """The server's status; empty if it doesn't answer."""
        try:
            answer = self._http.get("/status")
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.is_success else {}

    def send(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Send the server a webhook. Returns its answer."""
        answer = self._http.post("/webhook", json=payload, headers={SECRET_HEADER: "fault-secret"})
        answer.raise_for_status()
        return dict(answer.json())

    def until(self, condition: Callable[[], Found], what: str, timeout_s: float = WAIT_S) -> Found:
        """Poll until a condition holds, restarting a worker that kills itself in the meantime."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = None
            try:
                found = condition()
            except RankloopError as error:
                what = f"{what} ({error})"
            if found:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: still not: {what}\n{log_tail(self.worker.log)}")
            if self.worker.running:
                self.revive(POLL_S)
            else:
                time.sleep(POLL_S)

    def revive(self, timeout_s: float) -> bool:
        """Restart the worker if it dies within this time."""
        if not self.worker.died(timeout_s):
            return False
        self.worker.start()
        return True

    def _used(self, cycle: CycleJob, project: Judged) -> tuple[int, int]:
        """How many of the project's judgements the cycle's version learned from, and how many wrongly."""
        versions = self.registry.versions(own_line(project.id))
        made = [version for version in versions if version.tags.get("workflow_id") == cycle.job]
        if len(made) != 1:
            return 0, 0
        preferences = read_preferences(self.registry.fetch(made[0]) / "preferences.jsonl")
        found = {number: item.chosen for item in preferences for number in item.source.annotation_ids}
        used = [number for number in found if number in project.preferred]
        wrong = len(found) - len(used) + sum(found[number] != project.preferred[number] for number in used)
        return len(used), wrong
