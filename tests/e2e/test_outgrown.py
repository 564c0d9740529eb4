"""Beyond one machine's SQLite: jobs in a real PostgreSQL, versions in a real MLflow server on another of its
databases.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_project import tiny_training
from mlflow_server import MlflowServer
from postgres_server import PostgresServer, find_binaries

from ml_backend.demo.stack import environment_of
from ml_backend.loop.client import Jobs
from ml_backend.processes.children import Children
from ml_backend.registry.registry import Registry
from ml_backend.registry.version_files import damage_in
from ml_backend.settings import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WORKER = Path(__file__).parents[1] / "crash_worker.py"
BINARIES = find_binaries()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    if BINARIES is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with PostgresServer(BINARIES) as running:
        yield running


@pytest.fixture
def mlflow(postgres: PostgresServer, tmp_path: Path) -> Iterator[MlflowServer]:
    """An MLflow server that keeps its tables in PostgreSQL."""
    postgres.create("rankloop_mlflow")
    with MlflowServer(tmp_path / "mlflow", postgres.url("rankloop_mlflow", "postgresql+psycopg")) as running:
        yield running


@pytest.fixture
def chosen(postgres: PostgresServer, mlflow: MlflowServer, tiny_model_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of a machine that stores nothing permanently itself."""
    return {
        "data_dir": str(tmp_path / "home"),
        "model": str(tiny_model_dir),
        "device": "cpu",
        "max_new_tokens": 12,
        "database_url": postgres.url("rankloop_jobs"),
        "mlflow_tracking_uri": mlflow.url,
        "training_config": str(tiny_training(tmp_path)),
        "reconcile_cron": "0 0 1 1 *",
    }


def test_a_cycle_over_postgresql_and_an_mlflow_server(
    chosen: dict[str, Any], mlflow: MlflowServer, tmp_path: Path
) -> None:
    """A cycle ends in a promoted version whose files are in MLflow, and another machine fetches them intact."""
    settings = load_settings(**chosen)
    jobs, registry = Jobs(settings), Registry(settings)
    job = jobs.start_training(7)["job"]
    with Children(environment_of(chosen), logs=tmp_path) as children:
        children.start("worker", [sys.executable, str(WORKER), json.dumps(chosen)])
        cycle = jobs.wait(job, timeout_s=400)
        assert cycle.state == "promoted", (cycle, (tmp_path / "worker.log").read_text(encoding="utf-8"))

    champion = registry.champion()
    assert champion is not None
    assert (champion.name, champion.metrics["judgements"]) == ("rankloop-v2", 45)
    assert [(attempt.workflow_id, attempt.status) for attempt in registry.attempts()] == [(job, "promoted")]
    kept = [path for path in mlflow.artifacts.rglob("model.safetensors") if champion.run_id in path.parts]
    assert len(kept) == 1

    elsewhere = Registry(load_settings(**{**chosen, "data_dir": str(tmp_path / "elsewhere")}))
    folder = elsewhere.fetch(champion)
    assert damage_in(folder, champion.tags["manifest_sha256"]) is None
    assert {path.name for path in folder.iterdir()} >= {"policy", "reward", "preferences.jsonl", "report.json"}
    made_here = {path.name for path in settings.home().iterdir()}
    assert not made_here & {"dbos.sqlite", "mlflow.db", "mlartifacts"}, made_here
    assert [item.job for item in jobs.cycles()] == [job]
    jobs.close()
