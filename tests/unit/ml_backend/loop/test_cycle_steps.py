"""A training cycle's steps with a real registry and real training of a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from judged_project import JudgedProject, tiny_training

from ml_backend.errors import LabelConfigError
from ml_backend.lines import Connections
from ml_backend.loop.considering import Considering
from ml_backend.loop.cycle import CycleSteps, Plan
from ml_backend.loop.proposals import BulkProposals
from ml_backend.registry.registry import Registry
from ml_backend.registry.version_files import damage_in
from ml_backend.settings import Settings
from training.data.files import read_preferences, read_prompts
from training.errors import ConfigError, DataError


@dataclass(slots=True)
class _TwoProjects(JudgedProject):
    """Projects 7 and 8, which were judged alike; `others` are the second one's settings, if they differ."""

    others: Mapping[str, Any] | None = None

    def projects(self) -> list[Any]:
        return [self.project(7), self.project(8)]

    def project(self, project_id: int) -> Any:
        found = JudgedProject.project(self, project_id)
        found.id = project_id
        return found

    def backends(self, project_id: int) -> list[Any]:
        (backend,) = JudgedProject.backends(self, project_id)
        if project_id == 8 and self.others is not None:
            backend.extra_params = self.others
        return [backend]


@pytest.fixture
def cycle_settings(mlflow_settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose training takes seconds."""
    return mlflow_settings.model_copy(update={"training_config": tiny_training(tmp_path)})


@pytest.fixture
def registry(cycle_settings: Settings) -> Registry:
    """A real registry, with MLflow's tables already created."""
    return Registry(cycle_settings)


@pytest.fixture
def project() -> JudgedProject:
    """Sixty judged tasks."""
    return JudgedProject()


@pytest.fixture
def steps(cycle_settings: Settings, registry: Registry, project: JudgedProject) -> CycleSteps:
    """The steps, on that project."""
    return CycleSteps(cycle_settings, registry, project.open)


@pytest.fixture
def plan(steps: CycleSteps) -> Plan:
    """A cycle that has started."""
    run_id = steps.attempt(7, "cycle-7-test", "asked", {})
    return Plan(**steps.begin(7, "cycle-7-test", run_id, "asked"))


@pytest.fixture
def considering(cycle_settings: Settings, registry: Registry, project: JudgedProject) -> Considering:
    """Looks at the project's line."""
    connections = Connections(cycle_settings, registry, project.open)  # type: ignore[arg-type]
    return Considering(cycle_settings, registry, connections, project.open)  # type: ignore[arg-type]


def test_beginning_is_repeatable(steps: CycleSteps, plan: Plan, registry: Registry) -> None:
    """The plan names base and parent; repeating `begin` finds the same run."""
    assert (plan.base, plan.parent) == ("rankloop-v1", "rankloop-v1")
    assert (plan.line, plan.projects, plan.settings) == ("default", [7], {"line": "default"})
    assert steps.attempt(7, "cycle-7-test", "asked", {}) == plan.run_id
    assert Plan(**steps.begin(7, "cycle-7-test", plan.run_id, "asked")) == plan
    attempt = registry.attempts("default")[0]
    assert (attempt.status, attempt.tags["trigger"], attempt.tags["parent"]) == ("running", "asked", "rankloop-v1")


def test_new_judgements_are_those_since_the_last_snapshot(
    steps: CycleSteps, considering: Considering, project: JudgedProject
) -> None:
    """Before the first cycle all judgements are new, once it is tried only later ones; skips never count."""
    project.judged = 40
    assert considering.project(7)["new"] == 36
    run_id = steps.attempt(7, "cycle-7-test", "asked", {})
    plan = Plan(**steps.begin(7, "cycle-7-test", run_id, "asked"))
    assert considering.project(7)["new"] == 0
    assert steps.snapshot(plan) == {"tasks": 40, "snapshot_at": "2026-01-01T00:00:40+00:00"}
    assert considering.project(7)["new"] == 0
    project.judged = 52
    assert considering.project(7)["new"] == 11


def test_the_snapshot_becomes_preferences(steps: CycleSteps, plan: Plan) -> None:
    """Every judgement arrives in the cycle's folder, with the shorter answer chosen, and the counts add up."""
    steps.snapshot(plan)
    counts = steps.prepare(plan)
    folder = steps.folder(plan)
    assert (counts["annotations"], counts["kept"], counts["skipped"], counts["fault"]) == (60, 54, 6, None)
    preferences = read_preferences(folder / "preferences.jsonl")
    assert len(preferences) == counts["preferences"] == 54
    assert all(len(p.chosen.split()) < len(p.rejected.split()) for p in preferences)
    assert len(read_prompts(folder / "prompts.jsonl")) == 60
    assert json.loads((folder / "summary.json").read_bytes())["kept"] == 54


def test_a_shared_line_trains_on_the_judgements_of_all_its_projects(
    cycle_settings: Settings, registry: Registry
) -> None:
    """Two projects of one line: both are copied and converted, their counts add up, and what each saw is recorded."""
    both = _TwoProjects(judged=30, extra_params={"line": "shared", "max_new_tokens": 5})
    steps = CycleSteps(cycle_settings, registry, both.open)
    run_id = steps.attempt(8, "cycle-8-test", "asked", {})
    plan = Plan(**steps.begin(8, "cycle-8-test", run_id, "asked"))
    assert (plan.line, plan.projects, plan.parent) == ("shared", [7, 8], "rankloop.shared-v1")
    assert steps.snapshot(plan)["tasks"] == 60
    counts = steps.prepare(plan)
    assert (counts["annotations"], counts["kept"], counts["skipped"]) == (60, 54, 6)
    folder = steps.folder(plan)
    preferences = read_preferences(folder / "preferences.jsonl")
    assert {preference.source.project_id for preference in preferences} == {7, 8}
    assert len(read_prompts(folder / "prompts.jsonl")) == 60  # the two ask the same
    assert json.loads((folder / "config.json").read_bytes())["ppo"]["sampling"]["max_new_tokens"] == 5
    assert (folder / "label_config.8.xml").is_file()
    (attempt,) = registry.attempts("shared")
    assert attempt.seen == dict.fromkeys([7, 8], "2026-01-01T00:00:30+00:00")


def test_projects_of_one_line_that_want_different_things_are_told(cycle_settings: Settings, registry: Registry) -> None:
    """The cycle fails before anything is trained, and names the setting."""
    both = _TwoProjects(extra_params={"line": "shared"}, others={"line": "shared", "max_new_tokens": 5})
    steps = CycleSteps(cycle_settings, registry, both.open)
    run_id = steps.attempt(8, "cycle-8-test", "asked", {})
    with pytest.raises(ConfigError, match="different settings: max_new_tokens"):
        steps.begin(8, "cycle-8-test", run_id, "asked")


def test_a_rollback_during_a_cycle_holds(steps: CycleSteps, plan: Plan, registry: Registry, tmp_path: Path) -> None:
    """The cycle's version doesn't become champion, the reason says who is, and the next cycle may replace that one."""
    made = [_small_version(registry, tmp_path / name, name) for name in ("a", "b", "c")]
    registry.promote(made[0])
    running = replace(plan, parent=made[0])
    registry.rollback()
    held_back = steps.promote(running, made[1])
    assert held_back["status"] == "registered"
    assert held_back["reason"] == (
        f"{made[1]} is registered, but not champion: the champion is rankloop-v1 now, no longer {made[0]}. "
        f"`rankloop promote {made[1]}` makes it champion."
    )
    assert registry.current().name == "rankloop-v1"
    assert steps.promote(replace(plan, parent="rankloop-v1"), made[2])["status"] == "promoted"
    assert registry.current().name == made[2]


def _small_version(registry: Registry, folder: Path, name: str) -> str:
    folder.mkdir()
    (folder / "file").write_text(name)
    run_id = registry.start_cycle_run(7, f"cycle-{name}")
    return registry.register(folder, run_id=run_id, parent="rankloop-v1", metrics={}, tags={"kind": "cycle"}).name


def test_too_few_judgements_are_a_reason_to_stop(steps: CycleSteps, plan: Plan, project: JudgedProject) -> None:
    """Nineteen preferences are fewer than the twenty that the gates require."""
    project.judged = 21
    steps.snapshot(plan)
    assert steps.prepare(plan)["fault"] == "19 preferences are fewer than the required 20."


def test_a_project_without_prompts_is_named(steps: CycleSteps, plan: Plan, project: JudgedProject) -> None:
    """A wrong label config, or tasks without the key it names, end the cycle with a clear error."""
    project.size = 0
    with pytest.raises(DataError, match=r"project 7 has a prompt.*key prompt"):
        steps.snapshot(plan)
    project.label_config = "<View><Text name='t' value='$t'/></View>"
    with pytest.raises(LabelConfigError):
        steps.snapshot(plan)


def test_few_rewritten_answers_start_no_supervised_training(steps: CycleSteps, plan: Plan) -> None:
    """Below `min_demonstrations` the step does nothing."""
    steps.snapshot(plan)
    assert steps.sft(plan, 31) is False
    assert not (steps.folder(plan) / "sft").exists()


@pytest.mark.slow
def test_a_cycle_makes_a_version(
    steps: CycleSteps, plan: Plan, registry: Registry, cycle_settings: Settings, project: JudgedProject
) -> None:
    """Reward model and policy are trained, registered with their lineage, promoted even though the registry damaged the
    files, and propose answers.
    """
    steps.snapshot(plan)
    steps.prepare(plan)
    steps.reward(plan)
    assert steps.reward_gate(plan)["passed"] is True
    steps.ppo(plan, False)
    assert steps.policy_gate(plan)["passed"] is True
    name = steps.register(plan)
    assert steps.register(plan) == name == "rankloop-v2"
    stored = next((cycle_settings.home() / "mlartifacts").rglob(f"{plan.run_id}/artifacts/version"))
    (stored / "policy" / "model.safetensors").write_bytes(b"the registry's disk lost it")
    assert (
        steps.promote(plan, name)
        == steps.promote(plan, name)
        == {
            "status": "promoted",
            "reason": f"{name} is champion.",
        }
    )
    assert damage_in(stored, registry.get(name).tags["manifest_sha256"]) is None
    assert not (steps.folder(plan) / "version").exists()
    assert steps.finish(plan, "promoted", "It wins.") == {"status": "promoted", "reason": "It wins."}

    version = registry.get(name)
    assert (version.parent, version.tags["workflow_id"]) == ("rankloop-v1", "cycle-7-test")
    assert registry.champion() == version
    assert (version.metrics["annotations"], version.metrics["judgements"]) == (60, 54)
    assert 0 <= version.metrics["reward_accuracy"] <= 1
    folder = registry.fetch(version)
    assert {"policy", "reward", "report.json", "config.json", "preferences.jsonl", "curves.png"} <= {
        path.name for path in folder.iterdir()
    }
    attempt = registry.attempts("default")[0]
    assert (attempt.status, attempt.tags["version"], len(attempt.tags["dataset_digest"])) == ("promoted", name, 64)

    project.judged, project.stored = 50, []
    proposals = BulkProposals(cycle_settings, registry, project.open)  # type: ignore[arg-type]
    outcome = proposals.some(7)
    proposals.release()
    assert outcome == {"version": name, "stored": 10, "left": 0}
    assert {item["task"] for item in project.stored} == set(range(51, 61))
    assert all(item["model_version"] == name and item["result"] for item in project.stored)
    assert proposals.some(7) == {"version": name, "stored": 0, "left": 0}


@pytest.mark.slow
def test_a_worker_makes_again_what_another_one_has(steps: CycleSteps, plan: Plan, project: JudgedProject) -> None:
    """A worker with an empty data folder goes on with the cycle at any step, and uses the judgements of now."""
    folder = steps.folder(plan)
    steps.snapshot(plan)
    shutil.rmtree(folder)
    assert steps.prepare(plan)["preferences"] == len(read_preferences(folder / "preferences.jsonl"))
    shutil.rmtree(folder)
    project.judged = 50
    assert steps.policy_gate(plan)["passed"] is True
    assert {path.name for path in folder.iterdir()} >= {"config.json", "summary.json", "reward", "ppo"}
    assert json.loads((folder / "summary.json").read_bytes())["annotations"] == 50


@pytest.mark.slow
def test_rewritten_answers_are_imitated_first(steps: CycleSteps, plan: Plan) -> None:
    """With enough demonstrations, supervised fine-tuning produces a policy from which PPO can start."""
    steps.snapshot(plan)
    counts = steps.prepare(plan)
    rows = [{"prompt": f"What is tea number {n}?", "answer": "Leaves in hot water."} for n in range(40)]
    demonstrations = steps.folder(plan) / "demonstrations.jsonl"
    demonstrations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert counts["demonstrations"] == 0
    assert steps.sft(plan, 40) is True
    steps.reward(plan)
    steps.ppo(plan, True)
    report: dict[str, Any] = json.loads((steps.folder(plan) / "ppo" / "report.json").read_bytes())
    assert report["iterations"] == 2


def test_where_people_decide_a_version_becomes_challenger(
    steps: CycleSteps, plan: Plan, registry: Registry, tmp_path: Path
) -> None:
    """A project's own setting makes its line's next version challenge the champion, which stays where it is."""
    made = _small_version(registry, tmp_path / "a", "a")
    by_people = replace(plan, settings={**plan.settings, "promotion": "people"})
    assert steps.promote(by_people, made)["status"] == "challenger"
    assert registry.current().name == "rankloop-v1"
    challenger = registry.challenger()
    assert challenger is not None
    assert challenger.name == made
