"""Faults of outside systems: Label Studio, MLflow and PostgreSQL fail for a while, or are restarted."""

from __future__ import annotations

import signal
from typing import Literal

from mlflow_server import MlflowServer
from postgres_server import PostgresServer

from faults.faulty_proxy import Mode
from faults.stack import JUDGED_NOW, Stack

FAILED_REQUESTS = 4
FAIL_FOR_S = 6.0
DOWN_FOR_S = 20.0

Moment = Literal["count", "snapshot"]
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


def mlflow_restarting(stack: Stack, mlflow: MlflowServer) -> None:
    """MLflow is down while judgements are counted, while a cycle trains, and when it records its outcome."""
    project = stack.open_project("MLflow restarts")
    stack.annotators.judge(project, JUDGED_NOW - 1)
    _restart_mlflow(mlflow)
    stack.annotators.judge(project, 1)
    _restart_at(stack, stack.cycle(project).job, "reward")
    _restart_mlflow(mlflow)
    _restart_at(stack, stack.cycle(project).job, "ppo")
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
        _restart_at(stack, job, step)
        postgres.stop(how)
        postgres.start()
    stack.close(project, {"PostgreSQL restarts": 2, "PostgreSQL crashes": 2})


def _restart_mlflow(mlflow: MlflowServer) -> None:
    mlflow.stop()
    mlflow.start()
    mlflow.wait_until_up()


def _restart_at(stack: Stack, job: str, step: str) -> None:
    """Wait until a cycle has reached or passed a step."""

    def reached() -> bool:
        cycle = stack.jobs.wait(job, timeout_s=0)
        return cycle.ended or cycle.step == step

    stack.until(reached, f"the cycle is in {step}")
