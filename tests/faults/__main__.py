"""The fault matrix: `make faults`. With a real Label Studio, DBOS, MLflow and PostgreSQL, in half an hour."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mlflow_server import MlflowServer
from postgres_server import PostgresServer, find_binaries
from tiny_models import write_tiny_gpt2

from faults import edge_faults, outside_faults, people_faults, worker_faults
from faults.ledger import Ledger, as_table
from faults.stack import Stack
from ml_backend.demo.label_studio_server import LabelStudioServer

LEAST_FAULTS = 100
LEAST_KINDS = 40
LAST_START_SHARE = 0.85
"""The share of the time after which no new scenario starts."""

Scenario = Callable[[Stack], None]


class Lane(threading.Thread):
    """Scenarios for one stack, run in sequence. A failure in one doesn't stop the next."""

    def __init__(self, stack: Stack, scenarios: list[Scenario], until: float) -> None:
        super().__init__(name=stack.name)
        self._stack = stack
        self._scenarios = scenarios
        self._until = until

    def run(self) -> None:
        """Run the scenarios."""
        try:
            self._stack.start()
            for scenario in self._scenarios:
                self._live_through(scenario)
        except Exception as error:
            self._note("start", error)
        finally:
            self._look_for_doubles()
            self._stack.stop()

    def _live_through(self, scenario: Scenario) -> None:
        name = getattr(scenario, "func", scenario).__name__
        if time.monotonic() > self._until:
            self._stack.ledger.trouble.append(f"{name}: no time left")
            return
        started = time.monotonic()
        try:
            scenario(self._stack)
        except Exception as error:
            self._note(name, error)
            try:
                self._stack.recover()
            except Exception as fault:
                self._note(f"after {name}", fault)
        _say(f"{self._stack.name}: {name.replace('_', ' ')}, {time.monotonic() - started:.0f} s")

    def _look_for_doubles(self) -> None:
        try:
            for project in self._stack.projects:
                jobs = [f"{cycle.job} ({cycle.state})" for cycle in self._stack.cycles(project.id)]
                if len(jobs) > project.attempts:
                    found = f"project {project.id} has a reason for {project.attempts}: {', '.join(jobs)}"
                    self._stack.ledger.double_cycles += [found]
        except Exception as error:
            self._note("counting cycles", error)

    def _note(self, what: str, error: Exception) -> None:
        traceback.print_exception(error)
        self._stack.ledger.trouble.append(f"{self._stack.name}, {what}: {type(error).__name__}: {error}")


def run(folder: Path, minutes: float, only: list[str]) -> Ledger:
    """Start everything, go through all faults, and stop everything."""
    started, ledger = time.monotonic(), Ledger()
    until = started + 60 * minutes * LAST_START_SHARE
    model = folder / "model"
    write_tiny_gpt2(model)
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with ExitStack() as running:
        label_studio = LabelStudioServer(folder / "label-studio")
        label_studio.start()
        running.callback(label_studio.stop)
        postgres = running.enter_context(PostgresServer(binaries))
        mlflow = running.enter_context(MlflowServer(folder / "mlflow"))
        label_studio.wait_until_up()
        _say(f"everything is up after {time.monotonic() - started:.0f} s")
        outgrown = {"database_url": postgres.url("rankloop_jobs"), "mlflow_tracking_uri": mlflow.url}
        small = Stack("embedded", folder / "embedded", label_studio, ledger, model=str(model))
        large = Stack("outgrown", folder / "outgrown", label_studio, ledger, model=str(model), **outgrown)
        plan = {"embedded": (small, _EMBEDDED), "outgrown": (large, _outgrown(mlflow, postgres))}
        lanes = []
        for stack, scenarios in plan.values():
            names = [getattr(one, "func", one).__name__ for one in scenarios]
            pairs = zip(names, scenarios, strict=True)
            chosen = [one for name, one in pairs if any(part in name for part in only)]
            if chosen:
                lanes.append(Lane(stack, chosen, until))
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    return ledger


_EMBEDDED: list[Scenario] = [
    worker_faults.killed_at_every_step,
    worker_faults.server_killed_in_swap,
    worker_faults.registry_damaged,
    people_faults.cycle_always_failing,
    people_faults.project_disconnected,
    people_faults.rolled_back_during_a_cycle,
    people_faults.promoted_during_a_cycle,
    people_faults.config_changed,
    outside_faults.export_cut_off,
    outside_faults.clock_ahead,
    outside_faults.clock_behind,
]


def _outgrown(mlflow: MlflowServer, postgres: PostgresServer) -> list[Scenario]:
    return [
        partial(outside_faults.postgresql_restarting, postgres=postgres),
        partial(outside_faults.mlflow_restarting, mlflow=mlflow),
        outside_faults.label_studio_failing,
        worker_faults.training_killed,
        worker_faults.killed_mid_training,
        worker_faults.workers_killed_in_turn,
        edge_faults.webhooks_refused,
        edge_faults.webhooks_doubled,
        edge_faults.trained_at_every_save,
        edge_faults.minds_changed,
        edge_faults.webhooks_lost,
        worker_faults.disk_full,
    ]


def main() -> int:
    """Run the matrix, then print and save it. Returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--report", type=Path, default=Path("faults.json"), help="file for the figures")
    options.add_argument("--minutes", type=float, default=60.0, help="time limit in minutes")
    options.add_argument("--only", nargs="+", default=[""], help="only scenarios with one of these in their name")
    options.add_argument("--keep", action="store_true", help="leave data and logs behind")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rankloop-faults-"))
    began = time.monotonic()
    try:
        ledger = run(folder, given.minutes, given.only)
    finally:
        if given.keep:
            _say(f"data and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    figures = {**ledger.as_json(), "seconds": round(time.monotonic() - began)}
    given.report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(as_table(figures) + "\n")
    sys.stdout.write("".join(f"{line}\n" for line in figures["trouble"]))
    names = ("tried", "lost", "failed_requests", "double_cycles", "seconds")
    sys.stdout.write(", ".join(f"{name} {figures[name]}" for name in names) + "\n")
    good = not (figures["lost"] or figures["failed_requests"] or figures["double_cycles"] or figures["trouble"])
    enough = figures["tried"] >= LEAST_FAULTS and figures["kinds"] >= LEAST_KINDS
    return 0 if good and enough else 1


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
