"""Pruning and purging with a real registry: what goes, what stays, and that versions still verify."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ml_backend.errors import RegistryError
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings
from ml_backend.upkeep import Wanted, prune, purge
from training.errors import ConfigError

SECRET = "My number is 555 0100, call me."


@pytest.fixture
def kept(mlflow_settings: Settings) -> Settings:
    """Two versions and one cycle are kept."""
    return mlflow_settings.model_copy(update={"keep_versions": 2, "keep_cycles": 1})


@pytest.fixture
def registry(kept: Settings) -> Registry:
    """A registry with the base as champion."""
    registry = Registry(kept)
    registry.ensure_base()
    return registry


@pytest.fixture
def make(registry: Registry, kept: Settings, tmp_path: Path) -> Any:
    """Registers a small made-up version with the folder of its cycle, as a cycle would."""

    def make(number: int, parent: str | None = None, *, ends: bool = True) -> Version:
        job = f"cycle-7-{number}"
        row = {"prompt": "Tea?", "chosen": f"Answer {number}.", "rejected": "No.", "p_chosen": 1.0}
        rows = [{**row, "source": {"project_id": 7, "task_id": n, "annotation_ids": [n]}} for n in (1, 2)]
        lines = "".join(json.dumps(each) + "\n" for each in rows)
        folder = tmp_path / job
        for part in ("policy", "reward"):
            (folder / part).mkdir(parents=True)
            (folder / part / "model.safetensors").write_text(f"weights {number}")
        (folder / "preferences.jsonl").write_text(lines)
        regions = [{"value": {"text": [SECRET]}, "meta": {"proposed": SECRET}}]
        cycle = kept.home() / "cycles" / job
        cycle.mkdir(parents=True)
        task = {"id": 1, "project": 7, "data": {"prompt": "Tea?"}, "annotations": [{"id": 1, "result": regions}]}
        (cycle / "tasks.json").write_text(json.dumps([task]))
        (cycle / "preferences.jsonl").write_text(lines)
        (cycle / "demonstrations.jsonl").write_text(json.dumps({"prompt": "Tea?", "answer": SECRET}) + "\n")
        (cycle / "summary.json").write_text(json.dumps({"unknown_verdicts": {SECRET: 1}}))
        os.utime(cycle, (number, number))
        run_id = registry.start_cycle_run(7, job, {"parent": parent} if parent else {})
        registry.log_file(run_id, cycle / "summary.json")
        made = registry.register(folder, run_id=run_id, parent=parent, metrics={"kl_nats": 3.5}, tags={"kind": "cycle"})
        shutil.rmtree(folder)
        if ends:
            registry.finish_run(run_id, "promoted")
        return made

    return make


def _stored(settings: Settings, version: Version) -> Path:
    return settings.home() / "mlartifacts" / version.run_id / "artifacts" / "version"


def test_old_weights_and_folders_go_and_records_stay(kept: Settings, registry: Registry, make: Any) -> None:
    """Nothing is deleted in a dry run; the champion, its parent, the newest ones and the base keep their weights."""
    made = [make(number, "rankloop-v4" if number == 5 else None) for number in range(2, 9)]
    registry.fetch(made[0])
    registry.promote("rankloop-v5")
    would = prune(kept, registry, dry_run=True)
    assert registry.fetch(made[0])
    done = prune(kept, registry)
    assert done == would
    assert done.versions == ("rankloop-v2", "rankloop-v3", "rankloop-v6")
    assert sorted(done.cycles) == [f"cycle-7-{number}" for number in range(2, 8)]
    assert [path.name for path in (kept.home() / "cycles").iterdir()] == ["cycle-7-8"]
    for version in made:
        gone = version.name in done.versions
        assert sorted(path.name for path in _stored(kept, version).iterdir()) == [
            "manifest.json", *(() if gone else ("policy",)), "preferences.jsonl", *(() if gone else ("reward",))
        ]  # fmt: skip
        assert registry.get(version.name).metrics == {"kl_nats": 3.5}
    assert prune(kept, registry).versions == ()
    with pytest.raises(RegistryError, match="has no weights any more"):
        registry.promote("rankloop-v2")
    assert registry.promote("rankloop-v4").name == "rankloop-v4"


def test_what_a_running_cycle_needs_stays(kept: Settings, registry: Registry, make: Any) -> None:
    """The parent of a cycle that is running, and its folder; a folder without a record is left alone, and said."""
    for number in range(2, 7):
        make(number)
    make(1, "rankloop-v2", ends=False)
    (kept.home() / "cycles" / "from-elsewhere").mkdir()
    os.utime(kept.home() / "cycles" / "from-elsewhere", (0, 0))
    done = prune(kept, registry)
    assert "rankloop-v2" not in done.versions
    assert "cycle-7-1" not in done.cycles
    assert done.unknown == ("from-elsewhere",)


def test_zero_keeps_everything(kept: Settings, registry: Registry, make: Any) -> None:
    """For those who have the room."""
    for number in range(2, 6):
        make(number)
    done = prune(kept.model_copy(update={"keep_versions": 0, "keep_cycles": 0}), registry)
    assert (done.versions, done.cycles) == ((), ())


def test_a_deleted_annotation_goes_everywhere_and_versions_still_verify(
    kept: Settings, registry: Registry, make: Any
) -> None:
    """From snapshots, preferences, demonstrations and records; nothing holds its text, and its neighbour stays."""
    version = make(2)
    registry.fetch(version)
    wanted = Wanted(7, annotations=frozenset({1}))
    would = purge(kept, registry, wanted, dry_run=True)
    assert SECRET in (kept.home() / "cycles" / "cycle-7-2" / "tasks.json").read_text()
    done = purge(kept, registry, wanted)
    assert done == would
    assert done.learned == ("rankloop-v2",)
    assert set(done.files) == {
        "rankloop-v2: version/preferences.jsonl",
        "cycle-7-2 in the registry: summary.json",
        *(f"cycles/cycle-7-2/{name}.jsonl" for name in ("preferences", "demonstrations")),
        *(f"cycles/cycle-7-2/{name}.json" for name in ("tasks", "summary")),
    }
    for path in kept.home().rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl"):
            assert SECRET not in path.read_text()
            assert '"annotation_ids": [1]' not in path.read_text()
    fetched = registry.fetch(registry.get(version.name))
    assert '"annotation_ids": [2]' in (fetched / "preferences.jsonl").read_text()
    assert registry.promote(version.name).name == version.name
    assert purge(kept, registry, wanted).files == ()


def test_an_interrupted_purge_is_completed_by_repeating_it(
    kept: Settings, registry: Registry, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the version was sealed anew: it can't be fetched, until the purge was repeated."""
    version = make(2)
    wanted, real = Wanted(7, annotations=frozenset({1})), registry._client.set_model_version_tag

    def dies(model: str, number: str, key: str, value: str) -> None:
        if key == "manifest_sha256":
            raise KeyboardInterrupt
        real(model, number, key, value)

    monkeypatch.setattr(registry._client, "set_model_version_tag", dies)
    with pytest.raises(KeyboardInterrupt):
        purge(kept, registry, wanted)
    monkeypatch.undo()
    shutil.rmtree(registry.cached(version), ignore_errors=True)
    with pytest.raises(RegistryError, match="rankloop purge"):
        registry.fetch(registry.get(version.name))
    purge(kept, registry, wanted)
    assert registry.fetch(registry.get(version.name))


def test_damage_is_not_sealed(kept: Settings, registry: Registry, make: Any) -> None:
    """A file that differs from its record for another reason makes the purge stop."""
    version = make(2)
    (_stored(kept, version) / "preferences.jsonl").write_text("{}\n")
    with pytest.raises(RegistryError, match="damaged"):
        purge(kept, registry, Wanted(7, annotations=frozenset({1})))


def test_a_purge_needs_something_to_purge_and_no_cycle_that_reads_it(
    kept: Settings, registry: Registry, make: Any
) -> None:
    """Both are said before anything changes."""
    with pytest.raises(ConfigError, match="nothing to purge"):
        purge(kept, registry, Wanted())
    make(2, ends=False)
    with pytest.raises(ConfigError, match="cycle-7-2 is training on it"):
        purge(kept, registry, Wanted(7, annotations=frozenset({1})))
