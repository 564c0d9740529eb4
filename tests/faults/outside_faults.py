"""Faults of outside systems: Label Studio, MLflow and PostgreSQL fail for a while, or are restarted; a gateway cuts off
exports; Label Studio's clock differs from ours.
"""

from __future__ import annotations

import signal

from mlflow_server import MlflowServer
from postgres_server import PostgresServer

from faults.faulty_proxy import Cut, Mode
from faults.stack import JUDGED_NOW, Stack

FAILED_REQUESTS = 4
FAIL_FOR_S = 6.0
DOWN_FOR_S = 20.0

_EXPORT, _SNAPSHOT = r"/export(\?|$)", r"/exports/\d+/download"
_CUTS: list[dict[str, Cut]] = [
    {_EXPORT: "cut"},
    {_EXPORT: "504"},
    {_EXPORT: "cut", _SNAPSHOT: "cut"},
    {_EXPORT: "504", _SNAPSHOT: "504"},
]
"""What is cut off each time that a cycle reads the judgements."""
HOUR_S = 3600

_MODES: tuple[Mode, ...] = ("500", "429", "down")
_NAMES = {"500": "Label Studio answers 500", "429": "Label Studio answers 429", "down": "Label Studio is down"}


def label_studio_failing(stack: Stack) -> None:
    """Label Studio fails for the backend while judgements are counted, and again when a cycle begins."""
    project = stack.open_project("Label Studio fails")
    tried = dict.fromkeys(_NAMES.values(), 0)
    for mode in _MODES:
        stack.annotators.judge(project, 1)
        tried[_NAMES[mode]] += stack.proxy.fail(mode, FAILED_REQUESTS, FAIL_FOR_S) > 0
    stack.plan_kills([("before", "snapshot")])
    stack.annotators.judge(project, JUDGED_NOW - len(_MODES))
    stack.cycle(project)
    while not stack.worker.died(0.2):
        pass
    stack.worker.start()
    for mode in _MODES:  # the worker is now requesting the cycle's snapshot
        tried[_NAMES[mode]] += stack.proxy.fail(mode, FAILED_REQUESTS, DOWN_FOR_S) > 0
    stack.close(project, tried)


def export_cut_off(stack: Stack) -> None:
    """A gateway cuts off the export, and then the snapshot too; the worker reads all of it, and dies."""
    project = stack.open_project("export cut off")
    stack.plan_kills([("after", "snapshot")] * (len(_CUTS) - 1))
    before = stack.proxy.cuts.copy()
    try:
        for number, cut in enumerate(_CUTS):
            stack.proxy.cut_off(cut)
            if number == 0:
                stack.annotators.judge(project, JUDGED_NOW)
                stack.cycle(project)
            else:
                stack.worker.start()
            if number < len(_CUTS) - 1:
                while not stack.worker.died(0.2):
                    pass
            else:
                wait_for_step(stack, stack.cycle(project).job, "reward")
            missing = [pattern for pattern in cut if stack.proxy.cuts[pattern] == before[pattern]]
            assert not missing, f"the worker didn't ask for {missing}"
            before = stack.proxy.cuts.copy()
    finally:
        stack.proxy.cut_off({})
    tried = {
        "export cut off by a gateway": len(_CUTS),
        "snapshot cut off as well": sum(_SNAPSHOT in cut for cut in _CUTS),
    }
    stack.close(project, tried)


def clock_ahead(stack: Stack) -> None:
    """Label Studio's clock is an hour ahead of ours."""
    _with_clock(stack, "ahead", HOUR_S)


def clock_behind(stack: Stack) -> None:
    """Label Studio's clock is an hour behind ours."""
    _with_clock(stack, "behind", -HOUR_S)


def _with_clock(stack: Stack, how: str, ahead_s: int) -> None:
    """The cycle uses everything, and afterwards exactly what came since counts as new.

    No project sees the clock change: times that are stored don't move when a real clock is set.
    """
    moved = stack.proxy.moved
    stack.forget_last()
    stack.proxy.ahead_s = ahead_s
    try:
        project = stack.open_project(f"clock {how}")
        for _ in range(JUDGED_NOW):
            stack.annotators.judge(project, 1)
        stack.close(project, {f"Label Studio's clock an hour {how}": 1})
        assert stack.proxy.moved > moved, "no time was moved"
        stack.annotators.judge(project, 2)
        new = lambda: stack.jobs.status()["new_judgements"].get(project.id) == 2  # noqa: E731
        stack.until(new, "two judgements count as new")
        stack.stays_quiet(project)
    finally:
        stack.forget_last()
        stack.proxy.ahead_s = 0


def mlflow_restarting(stack: Stack, mlflow: MlflowServer) -> None:
    """MLflow is down while judgements are counted, while a cycle trains, and when it records its outcome."""
    project = stack.open_project("MLflow restarts")
    stack.annotators.judge(project, JUDGED_NOW - 1)
    _restart_mlflow(mlflow)
    stack.annotators.judge(project, 1)
    wait_for_step(stack, stack.cycle(project).job, "reward")
    _restart_mlflow(mlflow)
    wait_for_step(stack, stack.cycle(project).job, "ppo")
    _restart_mlflow(mlflow)
    stack.close(project, {"MLflow restarts": 3})


def postgresql_restarting(stack: Stack, postgres: PostgresServer) -> None:
    """PostgreSQL disconnects all clients, or crashes, while webhooks arrive and while a cycle trains."""
    project = stack.open_project("PostgreSQL restarts")
    stack.annotators.judge(project, JUDGED_NOW - 2)
    for how in (signal.SIGINT, signal.SIGQUIT):
        postgres.stop(how)
        stack.annotators.judge(project, 1)
        postgres.start()
    job = stack.cycle(project).job
    for step, how in (("reward", signal.SIGQUIT), ("ppo", signal.SIGINT)):
        wait_for_step(stack, job, step)
        postgres.stop(how)
        postgres.start()
    stack.close(project, {"PostgreSQL restarts": 2, "PostgreSQL crashes": 2})


def _restart_mlflow(mlflow: MlflowServer) -> None:
    mlflow.stop()
    mlflow.start()
    mlflow.wait_until_up()


def wait_for_step(stack: Stack, job: str, step: str) -> None:
    """Wait until a cycle has reached or passed a step."""

    def reached() -> bool:
        cycle = stack.jobs.wait(job, timeout_s=0)
        return cycle.ended or cycle.step == step

    stack.until(reached, f"the cycle is in {step}")
