"""The steps of a training cycle; their order is in `training.cycle`.

Each step stores its outcome on disk or in the registry, can be repeated after a crash at any point, and takes and
returns only JSON-serializable values.

A cycle's folder has the files of `dataset`, config.json (training settings), sft/, reward/, ppo/ and their logs.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_backend.label_studio import LabelStudio
from ml_backend.loop.child import Progress, train
from ml_backend.loop.dataset import convert_snapshot, take_snapshot
from ml_backend.registry import Registry
from ml_backend.settings import Settings
from training.atomic import atomic_folder, write_atomically
from training.config import CycleConfig
from training.cycle import Outcome, decide_on_policy, decide_on_reward_model
from training.evaluation import Gate
from training.reward import RewardReport
from training.runs import read_report

SECONDS_BETWEEN_METRICS = 5.0

logger = logging.getLogger(__name__)

OpenLabelStudio = Callable[[], AbstractContextManager["LabelStudio"]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cycle works on, fixed at its start."""

    project_id: int
    workflow_id: str
    run_id: str
    base: str
    parent: str


class CycleSteps:
    """The steps of a training cycle.

    Args:
        settings: the configuration.
        registry: stores versions and cycle runs.
        open_label_studio: opens a connection to Label Studio.
    """

    def __init__(self, settings: Settings, registry: Registry, open_label_studio: OpenLabelStudio) -> None:
        self._settings = settings
        self._registry = registry
        self._open = open_label_studio

    def folder(self, plan: Plan) -> Path:
        """The folder of a cycle's files."""
        return self._settings.home() / "cycles" / plan.workflow_id

    def count_new(self, project_id: int) -> int:
        """Count the judgements made since the project's last snapshot."""
        attempt = self._registry.last_attempt(project_id)
        with self._open() as label_studio:
            return label_studio.count_judgements_since(project_id, attempt.snapshot_at if attempt else None)

    def begin(self, project_id: int, workflow_id: str, trigger: str) -> dict[str, Any]:
        """Start the cycle's run and choose its parent version. Returns the plan."""
        run_id = self._registry.start_cycle_run(project_id, workflow_id, {"trigger": trigger})
        base = self._registry.ensure_base()
        parent = self._registry.current()
        self._registry.note(run_id, {"parent": parent.name})
        return asdict(Plan(project_id, workflow_id, run_id, base.name, parent.name))

    def snapshot(self, plan: Plan) -> dict[str, Any]:
        """Save the project's annotations, prompts and labeling configuration, and the training settings.

        Returns:
            `tasks` (the number of annotated tasks) and `snapshot_at` (when the newest annotation was made).
        """
        folder = self.folder(plan)
        write_atomically(folder / "config.json", self._settings.cycle_config().model_dump_json(indent=2))
        with self._open() as label_studio:
            taken = take_snapshot(label_studio, plan.project_id, folder)
        notes = {"snapshot_at": taken["snapshot_at"] or "", "annotated_tasks": str(taken["tasks"])}
        self._registry.note(plan.run_id, notes)
        return taken

    def prepare(self, plan: Plan) -> dict[str, Any]:
        """Convert the snapshot to preferences and demonstrations.

        Returns:
            The conversion's counts, the number of demonstrations, and `fault`: why there is too little data, or None.
        """
        folder = self.folder(plan)
        counts = convert_snapshot(plan.project_id, folder)
        self._registry.note(plan.run_id, {name: str(counts[name]) for name in ("dataset_digest", "kept")})
        self._registry.log_file(plan.run_id, folder / "summary.json")
        needed, found = self._config(plan).gates.min_preferences, counts["preferences"]
        fault = f"{found} preferences are fewer than the required {needed}." if found < needed else None
        return {**counts, "fault": fault}

    def sft(self, plan: Plan, demonstrations: int) -> bool:
        """Fine-tune on answers that people rewrote, if there are enough. Returns whether there were."""
        if demonstrations < self._config(plan).min_demonstrations:
            return False
        data = self.folder(plan) / "demonstrations.jsonl"
        self._train(plan, "sft", {"model": self._policy(plan.parent), "data": data})
        return True

    def reward(self, plan: Plan) -> None:
        """Train the reward model on all preferences, starting from the base model."""
        preferences = self.folder(plan) / "preferences.jsonl"
        self._train(plan, "reward", {"model": self._policy(plan.base), "preferences": preferences})

    def reward_gate(self, plan: Plan) -> Gate:
        """Decide whether the reward model is good enough for PPO."""
        return self._decided(plan, "reward", decide_on_reward_model(self.folder(plan), self._config(plan).gates))

    def ppo(self, plan: Plan, after_sft: bool) -> None:  # as in `training.cycle`
        """Fine-tune the policy with PPO, starting from the champion or from its supervised fine-tuning."""
        folder = self.folder(plan)
        options: dict[str, str | Path] = {
            "model": self._policy(plan.base),
            "policy": folder / "sft" / "policy" if after_sft else self._policy(plan.parent),
            "reward-model": folder / "reward",
            "prompts": folder / "prompts.jsonl",
        }
        self._train(plan, "ppo", options)

    def policy_gate(self, plan: Plan) -> Gate:
        """Decide whether the policy may become champion."""
        return self._decided(plan, "policy", decide_on_policy(self.folder(plan), self._config(plan).gates))

    def register(self, plan: Plan) -> str:
        """Register the outcome as a version. Idempotent; its folder stays until promotion. Returns its name."""
        folder = self.folder(plan)
        with atomic_folder(folder / "version") as version:
            shutil.copytree(folder / "ppo" / "policy", version / "policy")
            shutil.copytree(folder / "reward", version / "reward", ignore=shutil.ignore_patterns(".*", "checkpoints"))
            for name in ("preferences.jsonl", "summary.json", "config.json", "label_config.xml"):
                shutil.copy(folder / name, version / name)
            shutil.copy(folder / "ppo" / "curves.png", version / "curves.png")
            reports = {stage: read_report(folder / stage) for stage in ("reward", "ppo")}
            write_atomically(version / "report.json", json.dumps(reports, indent=2) + "\n")
        summary = json.loads((folder / "summary.json").read_bytes())
        metrics = _version_metrics(reports, summary)
        tags = {"kind": "cycle", "project_id": str(plan.project_id), "workflow_id": plan.workflow_id}
        registered = self._registry.register(
            folder / "version", run_id=plan.run_id, parent=plan.parent, metrics=metrics, tags=tags
        )
        self._registry.log_metrics(plan.run_id, [(f"version/{name}", value, 0) for name, value in metrics.items()])
        self._registry.note(plan.run_id, {"version": registered.name})
        return registered.name

    def promote(self, plan: Plan, name: str) -> str:
        """Make a version the champion, restoring files that the registry lost or damaged. Returns its name."""
        folder = self.folder(plan) / "version"
        if folder.is_dir():
            self._registry.mend(name, folder)
        promoted = self._registry.promote(name).name
        shutil.rmtree(folder, ignore_errors=True)
        return promoted

    def finish(self, plan: Plan, status: str, reason: str) -> Outcome:
        """Close the cycle's run. Returns its outcome."""
        self._registry.finish_run(plan.run_id, status, reason)
        logger.info("cycle %s of project %d: %s. %s", plan.workflow_id, plan.project_id, status, reason)
        return {"status": status, "reason": reason}

    def _train(self, plan: Plan, stage: str, options: Mapping[str, str | Path]) -> None:
        folder = self.folder(plan)
        common: dict[str, str | Path] = {"config": folder / "config.json", "device": self._settings.device}
        train(stage, {**options, **common}, folder / stage, _MetricsLog(self._registry, plan.run_id))
        for name in ("report.json", "curves.png"):
            if (folder / stage / name).is_file():
                self._registry.log_file(plan.run_id, folder / stage / name, stage)

    def _decided(self, plan: Plan, gate: str, result: Gate) -> Gate:
        self._registry.note(plan.run_id, {f"{gate}_gate": result["reason"]})
        return result

    def _policy(self, version: str) -> Path:
        return self._registry.fetch(self._registry.get(version)) / "policy"

    def _config(self, plan: Plan) -> CycleConfig:
        return CycleConfig.from_file(self.folder(plan) / "config.json")


class _MetricsLog:
    """Logs a stage's progress to the registry, every few seconds."""

    def __init__(self, registry: Registry, run_id: str) -> None:
        self._registry = registry
        self._run_id = run_id
        self._logged_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._logged_at < SECONDS_BETWEEN_METRICS and progress.step < progress.total:
            return
        self._logged_at = now
        points = [(f"{progress.stage}/{name}", value, progress.step) for name, value in progress.metrics.items()]
        self._registry.log_metrics(self._run_id, points)


def _version_metrics(reports: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics by which versions are compared; unmeasured ones are left out."""
    reward, ppo = RewardReport.from_json(dict(reports["reward"])), reports["ppo"]
    accuracy = reward.held_out()
    figures = {
        "annotations": summary["annotations"],
        "judgements": summary["kept"],
        "preferences": summary["preferences"],
        "reward_accuracy": accuracy.accuracy,
        "reward_accuracy_low": accuracy.interval[0],
        "reward_accuracy_high": accuracy.interval[1],
        "reward_accuracy_test": reward.accuracy.get("test"),
        "kl_nats": ppo["kl_nats"],
        "win_rate_vs_base": ppo["win_rate_vs_base"],
        "win_rate_low": ppo["win_rate_interval"][0],
        "win_rate_high": ppo["win_rate_interval"][1],
        "answer_tokens": ppo["answer_tokens"],
        "base_answer_tokens": ppo["base_answer_tokens"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}
