"""The registry against a real MLflow on SQLite."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ml_backend.errors import RegistryError, SupersededError
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.registry.version_files import MANIFEST, damage_in, seal
from ml_backend.settings import Settings, load_settings
from training.errors import ModelError


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A registry without versions."""
    return Registry(mlflow_settings)


@pytest.fixture
def make_version(registry: Registry, tmp_path: Path) -> Any:
    """Registers a small made-up version, as a cycle would."""

    def make(workflow_id: str = "cycle-1", *, parent: str | None = None, content: str = "weights") -> Version:
        folder = tmp_path / workflow_id
        (folder / "policy").mkdir(parents=True)
        (folder / "policy" / "model.safetensors").write_text(content)
        run_id = registry.start_cycle_run(7, workflow_id)
        tags = {"kind": "cycle", "dataset_digest": "abc"}
        return registry.register(folder, run_id=run_id, parent=parent, metrics={"kl_nats": 3.5}, tags=tags)

    return make


def _stored(settings: Settings, version: Version, name: str) -> Path:
    """Where the registry itself stores a version's file."""
    return settings.home() / "mlartifacts" / version.run_id / "artifacts" / "version" / name


def test_the_base_becomes_version_one_and_champion(registry: Registry, mlflow_settings: Settings) -> None:
    """On the first start the base model is registered, becomes champion, and loads from the fetched folder."""
    from training.models.load import load_causal_lm

    assert registry.champion() is None
    base = registry.ensure_base()
    assert (base.number, base.name, base.parent) == (1, "rankloop-v1", None)
    assert registry.champion() == base
    folder = registry.fetch(base)
    assert load_causal_lm(str(folder / "policy"), "cpu").config.n_layer == 3
    assert json.loads((folder / "config.json").read_bytes())["text"] == {
        **mlflow_settings.cycle_config().text.model_dump()
    }


def test_current_is_the_champion_or_else_the_base(registry: Registry, make_version: Any) -> None:
    """Without a champion, the base is registered and becomes champion; afterwards the champion is returned."""
    assert registry.current().name == "rankloop-v1"
    assert registry.champion() == registry.current()
    registry.promote(make_version().name)
    assert registry.current().name == "rankloop-v2"


def test_the_base_is_registered_once(registry: Registry, mlflow_settings: Settings) -> None:
    """A restart and two simultaneous starts all find the same base."""
    results: list[Version] = []
    starts = [
        threading.Thread(target=lambda: results.append(Registry(mlflow_settings).ensure_base())) for _ in range(3)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [version.name for version in results] == ["rankloop-v1"] * 3
    assert [version.name for version in registry.versions()] == ["rankloop-v1"]


@pytest.mark.slow
def test_two_processes_start_together_on_an_empty_folder(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Even before MLflow's own tables exist, both processes end up with the same champion."""
    program = (
        "from ml_backend.registry import Registry; from ml_backend.settings import load_settings;"
        f"print(Registry(load_settings(data_dir={str(tmp_path)!r}, model={str(tiny_model_dir)!r})).ensure_base().name)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outcomes = [process.communicate(timeout=120) for process in both]
    assert [out.strip() for out, _ in outcomes] == ["rankloop-v1"] * 2, outcomes
    assert "INFO" not in outcomes[0][1] + outcomes[1][1]
    assert len(Registry(load_settings(data_dir=tmp_path, model=str(tiny_model_dir))).versions()) == 1


def test_a_missing_base_model_is_named(mlflow_settings: Settings) -> None:
    """A missing model folder raises a ModelError that names it, and registers nothing."""
    registry = Registry(mlflow_settings.model_copy(update={"model": "/no/such/model"}))
    with pytest.raises(ModelError, match="/no/such/model"):
        registry.ensure_base()
    assert registry.versions() == []


def test_another_base_model_is_refused(
    registry: Registry, mlflow_settings: Settings, version_folders: dict[str, Path]
) -> None:
    """Versions descend from one base: for other weights the registry says what to do; a moved folder is fine."""
    registry.ensure_base()
    other = str(version_folders["rankloop-v2"] / "policy")
    with pytest.raises(RegistryError, match="RANKLOOP_MODEL_NAME"):
        Registry(mlflow_settings.model_copy(update={"model": other})).ensure_base()
    moved = str(version_folders["rankloop-v1"] / "policy")
    assert Registry(mlflow_settings.model_copy(update={"model": moved})).ensure_base().number == 1


def test_registering_records_lineage_and_leaves_the_champion(registry: Registry, make_version: Any) -> None:
    """A new version carries parent, metrics and tags; the champion is a separate decision."""
    base = registry.ensure_base()
    version = make_version(parent=base.name)
    assert (version.number, version.name, version.parent) == (2, "rankloop-v2", "rankloop-v1")
    assert version.metrics == {"kl_nats": 3.5}
    assert version.tags["dataset_digest"] == "abc"
    champion = registry.champion()
    assert champion is not None
    assert champion.name == base.name
    assert [item.name for item in registry.versions()] == ["rankloop-v1", "rankloop-v2"]


def test_registering_a_run_again_returns_the_same_version(
    registry: Registry, make_version: Any, tmp_path: Path
) -> None:
    """A worker killed after registering finds its version when it tries again."""
    version = make_version()
    again = registry.register(tmp_path / "cycle-1", run_id=version.run_id, parent=None, metrics={}, tags={})
    assert again.number == version.number
    assert len(registry.versions()) == 1


def test_promote_and_roll_back_through_history(registry: Registry, make_version: Any) -> None:
    """Rollback goes through the champions in reverse; promoting the champion again adds nothing to the history."""
    names = [registry.ensure_base().name, make_version("a").name, make_version("b").name]
    registry.promote(names[1])
    registry.promote(names[2])
    assert registry.promote(names[2]).name == names[2]
    assert registry.champion() == registry.get(names[2])
    assert registry.rollback().name == names[1]
    assert registry.rollback().name == names[0]
    with pytest.raises(RegistryError, match="rankloop promote"):
        registry.rollback()
    champion = registry.champion()
    assert champion is not None
    assert champion.name == names[0]


def test_a_change_of_champion_may_depend_on_what_it_replaces(registry: Registry, make_version: Any) -> None:
    """Whoever decided about another champion changes nothing; each champion says since when it has been one."""
    base, second, third = registry.ensure_base().name, make_version("a").name, make_version("b").name
    assert registry.get(second).promoted_at is None
    registry.promote(second, instead_of=base)
    assert registry.champions() == [base, second]
    assert (registry.get(second).promoted_at or "").startswith("20")
    with pytest.raises(SupersededError, match=f"the champion is {second} now, no longer {third}"):
        registry.rollback(instead_of=third)
    assert registry.rollback(instead_of=second).name == base
    assert registry.champions() == [base]


def test_a_report_is_read_without_the_weights(registry: Registry, tmp_path: Path, mlflow_settings: Settings) -> None:
    """From the registry, or from the local copy if that is intact; the base has none, and MLflow's page is known."""
    folder = tmp_path / "cycle-1"
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "model.safetensors").write_text("weights")
    (folder / "report.json").write_text('{"reward": {"n": 1}}')
    run_id = registry.start_cycle_run(7, "cycle-1")
    made = registry.register(folder, run_id=run_id, parent=None, metrics={}, tags={"kind": "cycle"})
    assert registry.report(made) == {"reward": {"n": 1}}
    assert not registry.cached(made).exists()
    registry.fetch(made)
    _stored(mlflow_settings, made, "report.json").unlink()
    assert registry.report(made) == {"reward": {"n": 1}}
    (registry.cached(made) / MANIFEST).write_text("{}")
    with pytest.raises(RegistryError, match="read the report of rankloop-v1"):
        registry.report(made)
    assert re.fullmatch(rf"#/experiments/\d+/runs/{run_id}", registry.run_path(made))


def test_a_promotion_cut_off_half_way_does_not_count(registry: Registry, make_version: Any) -> None:
    """History is written before the alias: a crash in between leaves the old champion, and rollback still works."""
    base, second, third = registry.ensure_base(), make_version("a"), make_version("b")
    registry.promote(second.name)
    registry._client.set_registered_model_tag(
        "rankloop", "champions", json.dumps([base.number, second.number, third.number])
    )
    assert registry.rollback().name == base.name


@pytest.mark.parametrize("name", ["rankloop-v9", "rankloop-v0", "rankloop-v1/../..", "other-v1", "rankloop-v1'", ""])
def test_an_unknown_version_is_refused(registry: Registry, make_version: Any, name: str) -> None:
    """For an unknown name the error lists the known ones; the name never becomes part of a path or a query."""
    make_version()
    with pytest.raises(RegistryError, match="rankloop-v1"):
        registry.promote(name)


def test_a_fetched_copy_that_was_damaged_is_fetched_again(
    registry: Registry, make_version: Any, mlflow_settings: Settings
) -> None:
    """Missing or changed files of the local copy are restored from the registry."""
    version = make_version(content="sound")
    weights = registry.fetch(version) / "policy" / "model.safetensors"
    assert weights == mlflow_settings.home() / "versions" / version.name / "policy" / "model.safetensors"
    weights.write_text("broken")
    assert registry.fetch(version) == weights.parent.parent
    assert weights.read_text() == "sound"


def test_a_damaged_version_is_refused_and_the_one_before_answers(
    registry: Registry, make_version: Any, mlflow_settings: Settings
) -> None:
    """For a damaged file in the registry the error names it and a remedy, and the version can't be promoted."""
    base, version = registry.ensure_base(), make_version()
    _stored(mlflow_settings, version, "policy/model.safetensors").write_text("broken")
    with pytest.raises(RegistryError, match=r"rankloop-v2 .* policy/model.safetensors is damaged.*rankloop rollback"):
        registry.promote(version.name)
    assert not (mlflow_settings.home() / "versions" / version.name).exists()
    champion = registry.champion()
    assert champion is not None
    assert champion.name == base.name
    _stored(mlflow_settings, version, "policy/model.safetensors").unlink()
    with pytest.raises(RegistryError, match="is missing"):
        registry.fetch(version)


def test_a_cycle_run_is_found_again_by_its_workflow(registry: Registry) -> None:
    """One workflow, one run. A run from before there were lines belongs to the default line."""
    first = registry.start_cycle_run(7, "w-1", {"trigger": "judgements"})
    assert registry.start_cycle_run(7, "w-1") == registry.run_of("w-1") == first
    assert registry.run_of("w-2") is None
    registry.note(first, {"snapshot_at": "2026-01-02T03:04:05.000006Z"})
    registry.finish_run(first, "rejected", "accuracy 0.5 is below 0.55")
    registry.start_cycle_run(7, "w-2", {"line": "project-7"})
    registry.start_cycle_run(8, "w-3", {"line": "shared"})
    assert [item.workflow_id for item in registry.attempts("project-7")] == ["w-2"]
    (attempt,) = registry.attempts("default")
    assert (attempt.workflow_id, attempt.status, attempt.line) == ("w-1", "rejected", "default")
    assert attempt.seen == {7: "2026-01-02T03:04:05.000006Z"}
    assert attempt.ended_at is not None
    assert attempt.began_at <= attempt.ended_at <= time.time()
    assert attempt.snapshot_at == "2026-01-02T03:04:05.000006Z"
    assert attempt.reason == "accuracy 0.5 is below 0.55"
    assert attempt.tags["trigger"] == "judgements"
    assert [item.workflow_id for item in registry.attempts()] == ["w-3", "w-2", "w-1"]


def test_more_metrics_than_fit_into_one_batch_arrive(registry: Registry, tmp_path: Path) -> None:
    """Curves are logged a thousand points at a time, and files stay with the run."""
    run_id = registry.start_cycle_run(7, "w-1")
    registry.log_metrics(run_id, [("reward/loss", 1 / (step + 1), step) for step in range(1500)])
    history = registry._client.get_metric_history(run_id, "reward/loss")
    assert sorted(point.step for point in history) == list(range(1500))
    (tmp_path / "report.json").write_text("{}")
    registry.log_file(run_id, tmp_path / "report.json", "reward")
    assert [item.path for item in registry._client.list_artifacts(run_id, "reward")] == ["reward/report.json"]


def test_unsafe_workflow_ids_are_refused(registry: Registry) -> None:
    """Ids that could escape from a query or a path are refused."""
    with pytest.raises(RegistryError, match="can't be used"):
        registry.start_cycle_run(7, "x' or tags.kind = 'base")


def test_asking_for_the_champion_is_cheap(registry: Registry) -> None:
    """It takes milliseconds, as the server asks every few seconds and at every status."""
    registry.ensure_base()
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        registry.champion()
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[10] < 0.05


def test_an_unreachable_mlflow_is_said_without_its_password(tmp_path: Path) -> None:
    """An unusable tracking server raises a RegistryError that names the setting and hides the credentials."""
    uri = "nosuchscheme://user:secret@nowhere/db"
    registry = Registry(load_settings(data_dir=tmp_path, mlflow_tracking_uri=uri))
    with pytest.raises(RegistryError, match="RANKLOOP_MLFLOW_TRACKING_URI") as caught:
        registry.champion()
    assert "secret" not in str(caught.value)


def test_sealing_notices_every_change(tmp_path: Path) -> None:
    """A sealed folder is intact until a file changes or goes, or the manifest is rewritten; new files are fine."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    digest = seal(tmp_path)
    (tmp_path / "c").write_text("3")
    assert damage_in(tmp_path, digest) is None
    (tmp_path / "policy" / "a").write_text("4")
    assert damage_in(tmp_path, digest) == "policy/a is damaged"
    (tmp_path / "policy" / "a").unlink()
    assert damage_in(tmp_path, digest) == "policy/a is missing"
    seal(tmp_path)
    assert damage_in(tmp_path, digest) == f"{MANIFEST} is damaged"
