"""The steps of a training cycle; their order is in `training.cycle`.

Each step stores its outcome on disk or in the registry, can be repeated after a crash at any point, and takes and
returns only JSON-serializable values.

A cycle's folder has the files of `dataset`, config.json (training settings), sft/, reward/, ppo/ and their logs.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ml_backend.lines import Connected, Connections, ProjectSettings, agreed, not_connected, put_forward
from ml_backend.loop.child import MetricsLog, train
from ml_backend.loop.considering import Considering, OpenLabelStudio, config_digest
from ml_backend.loop.dataset import convert_snapshots, take_snapshots
from ml_backend.loop.names import FORCED
from ml_backend.registry import DEFAULT_LINE, Registry, write_record
from ml_backend.settings import Settings
from training.atomic import atomic_folder, write_atomically
from training.config import CycleConfig
from training.cycle import Outcome, decide_on_policy, decide_on_reward_model, version_metrics
from training.evaluation import Gate
from training.runs import read_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cycle works on, fixed at its start.

    project_id: the project that it was asked for.
    base, parent: the line's version of the base model, and its champion at the start.
    projects: all projects of the line, whose judgements it trains on.
    settings: what these projects agree on, see `ProjectSettings`.
    """

    project_id: int
    workflow_id: str
    run_id: str
    base: str
    parent: str
    line: str = DEFAULT_LINE
    projects: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


class CycleSteps:
    """The steps of a training cycle.

    Args:
        settings: the configuration.
        registry: stores versions and cycle runs.
        open_label_studio: opens a connection to Label Studio.
        connections: knows which projects are connected; made from the others if not given.
        is_cancelled: whether somebody cancelled the cycle with this id. Its training then ends at once.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        open_label_studio: OpenLabelStudio,
        connections: Connections | None = None,
        is_cancelled: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._open = open_label_studio
        self._connections = connections or Connections(settings, registry, open_label_studio)
        self._considering = Considering(settings, registry, self._connections, open_label_studio)
        self._is_cancelled = is_cancelled

    def folder(self, plan: Plan) -> Path:
        """The folder of a cycle's files."""
        return self._settings.home() / "cycles" / plan.workflow_id

    def attempt(self, project_id: int, workflow_id: str, trigger: str, given: Mapping[str, Any]) -> str:
        """Record that a cycle is tried, before anything else can fail. Returns its run.

        Args:
            project_id: the project that it was asked for.
            workflow_id: the cycle.
            trigger: see `names.ASKED`.
            given: what is known of its `line` and of the judgements `seen` when it was queued.
        """
        tags = {"trigger": trigger}
        if given.get("line"):
            tags["line"] = given["line"]
        if given.get("seen"):
            tags["seen"] = json.dumps(given["seen"])
        return self._registry.start_cycle_run(project_id, workflow_id, tags)

    def begin(self, project_id: int, workflow_id: str, run_id: str, trigger: str) -> dict[str, Any]:
        """Find out what the cycle works on. Returns the plan, or `refused` with the reason.

        Raises:
            ConfigError: the line's projects don't agree on their settings.
        """
        project = self._connections.of(project_id)
        if project is None:
            return {"refused": not_connected(project_id)}
        line = project.line
        self._registry.note(run_id, {"line": line})
        if trigger != FORCED and self._registry.paused_since(line):
            remedy = f"`rankloop resume {line}` ends that, `rankloop train --force` trains once."
            return {"refused": f"Line {line} is paused. {remedy}"}
        projects = self._connections.on_line_of(project)
        self._note_seen(run_id, line, projects)
        settings = agreed({each.project_id: each.settings for each in projects})
        base, parent = self._registry.base(line), self._registry.current(line)
        self._registry.note(run_id, {"parent": parent.name})
        numbers = [each.project_id for each in projects]
        extra = settings.as_extra_params()
        return asdict(Plan(project_id, workflow_id, run_id, base.name, parent.name, line, numbers, extra))

    def snapshot(self, plan: Plan) -> dict[str, Any]:
        """Save the annotations, prompts and labeling configurations of the line's projects, and the training settings.

        Returns:
            `tasks` (the number of annotated tasks) and `snapshot_at` (when the newest annotation was made).
        """
        folder = self.folder(plan)
        write_atomically(folder / "config.json", self._cycle_config(plan).model_dump_json(indent=2))
        with self._open() as label_studio:
            taken = take_snapshots(label_studio, plan.projects, folder)
        seen = {str(number): each["snapshot_at"] for number, each in taken.items() if each["snapshot_at"]}
        newest = max(seen.values(), default=None)
        tasks = sum(each["tasks"] for each in taken.values())
        notes = {"snapshot_at": newest or "", "annotated_tasks": str(tasks)}
        self._registry.note(plan.run_id, {**notes, "seen": json.dumps(seen)} if seen else notes)
        return {"tasks": tasks, "snapshot_at": newest}

    def prepare(self, plan: Plan) -> dict[str, Any]:
        """Convert the snapshot to preferences and demonstrations.

        Returns:
            The conversion's counts, the number of demonstrations, and `fault`: why there is too little data, or None.
        """
        folder = self.folder(plan)
        if not (folder / "config.json").is_file():  # see `_with`
            self.snapshot(plan)
        counts = convert_snapshots(plan.projects, folder, self._settings.ground_truth)
        self._registry.note(plan.run_id, {name: str(counts[name]) for name in ("dataset_digest", "kept")})
        self._registry.log_file(plan.run_id, folder / "summary.json")
        needed, found = self._config(plan).gates.min_preferences, counts["preferences"]
        fault = f"{found} preferences are fewer than the required {needed}." if found < needed else None
        return {**counts, "fault": fault}

    def sft(self, plan: Plan, demonstrations: int) -> bool:
        """Fine-tune on answers that people rewrote, if there are enough. Returns whether there were."""
        data = self._with(plan) / "demonstrations.jsonl"
        if demonstrations < self._config(plan).min_demonstrations:
            return False
        self._train(plan, "sft", {"model": self._policy(plan.parent), "data": data})
        return True

    def reward(self, plan: Plan) -> None:
        """Train the reward model on all preferences, starting from the base model."""
        preferences = self._with(plan) / "preferences.jsonl"
        self._train(plan, "reward", {"model": self._policy(plan.base), "preferences": preferences})

    def reward_gate(self, plan: Plan) -> Gate:
        """Decide whether the reward model is good enough for PPO."""
        return self._decided(
            plan, "reward", decide_on_reward_model(self._with(plan, "reward"), self._config(plan).gates)
        )

    def ppo(self, plan: Plan, after_sft: bool) -> None:  # as in `training.cycle`
        """Fine-tune the policy with PPO, starting from the champion or from its supervised fine-tuning."""
        folder = self._with(plan, *(["sft"] if after_sft else []), "reward")
        options: dict[str, str | Path] = {"model": self._policy(plan.base), "reward-model": folder / "reward"}
        options |= dict.fromkeys(("policy", "champion"), self._policy(plan.parent))
        options |= {name: folder / f"{name}.jsonl" for name in ("prompts", "preferences")}
        if after_sft:
            options |= dict.fromkeys(("policy", "reference"), folder / "sft" / "policy")
        self._train(plan, "ppo", options)

    def policy_gate(self, plan: Plan) -> Gate:
        """Decide whether the policy may become champion."""
        return self._decided(plan, "policy", decide_on_policy(self._with(plan, "ppo"), self._config(plan).gates))

    def register(self, plan: Plan) -> str:
        """Register the outcome as a version. Idempotent; its folder stays until promotion. Returns its name."""
        folder = self._with(plan, "reward", "ppo")
        with atomic_folder(folder / "version") as version:
            shutil.copytree(folder / "ppo" / "policy", version / "policy")
            shutil.copytree(folder / "reward", version / "reward", ignore=shutil.ignore_patterns(".*", "checkpoints"))
            configs = [path.name for path in folder.glob("label_config*.xml")]
            for name in ("preferences.jsonl", "demonstrations.jsonl", "summary.json", "config.json", *configs):
                shutil.copy(folder / name, version / name)
            shutil.copy(folder / "ppo" / "curves.png", version / "curves.png")
            base = self._registry.get(plan.base).tags
            facts = {"base": base.get("base", ""), "base_model": base.get("base_model", "")}
            write_record(version, self._config(plan), precision=self._settings.proposal_precision, **facts)
            reports = {stage: read_report(folder / stage) for stage in ("reward", "ppo")}
            write_atomically(version / "report.json", json.dumps(reports, indent=2) + "\n")
        summary = json.loads((folder / "summary.json").read_bytes())
        metrics = version_metrics(reports, summary)
        tags = {"kind": "cycle", "project_id": str(plan.project_id), "workflow_id": plan.workflow_id}
        registered = self._registry.register(
            folder / "version", run_id=plan.run_id, parent=plan.parent, metrics=metrics, tags=tags, line=plan.line
        )
        self._registry.log_metrics(plan.run_id, [(f"version/{name}", value, 0) for name, value in metrics.items()])
        self._registry.note(plan.run_id, {"version": registered.name})
        return registered.name

    def promote(self, plan: Plan, name: str) -> Outcome:
        """Make a version the champion, or where people decide its challenger, restoring files that the registry lost or
        damaged. Returns what came of it; see `lines.put_forward`.
        """
        folder = self.folder(plan) / "version"
        if folder.is_dir():
            self._registry.mend(name, folder)
        by_people = (ProjectSettings(**plan.settings).promotion or self._settings.promotion) == "people"
        status, why = put_forward(self._registry, name, instead_of=plan.parent, people_decide=by_people)
        shutil.rmtree(folder, ignore_errors=True)
        return {"status": status, "reason": why}

    def finish(self, plan: Plan, status: str, reason: str) -> Outcome:
        """Close the cycle's run. Returns its outcome."""
        return self.end(plan.run_id, status, reason)

    def end(self, run_id: str, status: str, reason: str, cause: str = "") -> Outcome:
        """Close a cycle's run; `cause` is why it failed, see `lines.Past`. Returns its outcome."""
        if cause:
            self._registry.note(run_id, {"cause": cause})
        self._registry.finish_run(run_id, status, reason)
        logger.info("cycle of run %s: %s. %s", run_id, status, reason)
        return {"status": status, "reason": reason}

    def _note_seen(self, run_id: str, line: str, projects: list[Connected]) -> None:
        """Record which judgements and which configuration the attempt is about, so that failing uses them up."""
        _, seen = self._considering.judgements(line, projects)
        texts = {str(number): moment for number, moment in seen.items()}
        digest = config_digest(self._settings, projects)
        self._registry.note(run_id, {"seen": json.dumps(texts), "config_digest": digest})

    def _cycle_config(self, plan: Plan) -> CycleConfig:
        """The training settings, with the projects' own system prompt and answer length."""
        own = ProjectSettings(**plan.settings)
        return self._settings.cycle_config().told(own.system_prompt, own.max_new_tokens)

    def _with(self, plan: Plan, *stages: str) -> Path:
        """The cycle's folder with its data and these trainings. What another worker has is made again."""
        folder = self.folder(plan)
        if not (folder / "summary.json").is_file():
            logger.warning("the files of %s are in another worker's data folder; they are made again", plan.workflow_id)
            self.prepare(plan)
        for stage in stages:
            if not (folder / stage / "report.json").is_file():
                self._again(plan, stage)
        return folder

    def _again(self, plan: Plan, stage: str) -> None:
        demonstrations = json.loads((self.folder(plan) / "summary.json").read_bytes())["demonstrations"]
        if stage == "reward":
            self.reward(plan)
        elif stage == "sft":
            self.sft(plan, demonstrations)
        else:
            self.ppo(plan, self.sft(plan, demonstrations))

    def _train(self, plan: Plan, stage: str, options: Mapping[str, str | Path]) -> None:
        folder = self.folder(plan)
        common: dict[str, str | Path] = {"config": folder / "config.json", "device": self._settings.device}
        log = MetricsLog(partial(self._registry.log_metrics, plan.run_id))
        stopped = lambda: self._is_cancelled(plan.workflow_id)  # noqa: E731
        train(stage, {**options, **common}, folder / stage, log, is_cancelled=stopped)
        for name in ("report.json", "curves.png", "frontier.png"):
            if (folder / stage / name).is_file():
                self._registry.log_file(plan.run_id, folder / stage / name, stage)

    def _decided(self, plan: Plan, gate: str, result: Gate) -> Gate:
        self._registry.note(plan.run_id, {f"{gate}_gate": result["reason"]})
        return result

    def _policy(self, version: str) -> Path:
        return self._registry.fetch(self._registry.get(version)) / "policy"

    def _config(self, plan: Plan) -> CycleConfig:
        return CycleConfig.from_file(self.folder(plan) / "config.json")
