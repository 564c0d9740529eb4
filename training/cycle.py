"""One whole cycle on files: preferences, reward model, gate, PPO, gate, report. Each stage resumes where it stood."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.data.votes import dataset_digest, read_demonstrations, read_preferences
from training.evaluation.gates import GateResult, policy_gate, reward_gate
from training.runs.folder import open_run
from training.runs.progress import StageProgress
from training.stages.ppo import run_ppo, run_reward, run_sft
from training.stages.stage import Options


@dataclass(frozen=True, slots=True)
class CycleInputs:
    """What a cycle works on.

    model: the base.
    policy: the version to go on from, None for the base.
    preferences, prompts, demonstrations: files; the last is optional.
    """

    model: str
    policy: str | None
    preferences: Path
    prompts: Path
    demonstrations: Path | None = None


def run_cycle(options: Options, inputs: CycleInputs) -> bool:
    """Run the stages in `out/sft`, `out/reward` and `out/ppo`, and write `out/report.json`.

    Supervised training comes first where there are at least `min_demonstrations`. A gate that doesn't pass ends the
    cycle: the report says why.

    Returns:
        Whether the new policy passed both gates.

    Raises:
        RankloopError: an input can't be used.
    """
    known = {**asdict(inputs), "settings": options.config}
    with (
        open_run(options.out, "cycle", known) as finished,
        StageProgress(options.out, "cycle", quiet=True) as file,
        StageProgress(None, "cycle", quiet=options.quiet, with_bar=False) as screen,
    ):
        if finished:
            screen.say(f"{options.out} holds this cycle's outcome already.")
            report = json.loads((options.out / "report.json").read_bytes())
            return bool(report["passed"])
        options.config.save(options.out / "config.json")
        result, stages = _stages(options, inputs, screen, file)
        report = {
            "passed": result.passed,
            "reason": result.reason,
            "dataset_digest": dataset_digest(read_preferences(inputs.preferences)),
            "stages": stages,
        }
        write_atomically(options.out / "report.json", json.dumps(report, indent=2) + "\n")
        file.step(3, 3)
        screen.say(f"{'Passed' if result.passed else 'Not passed'}: {result.reason}")
        return result.passed


def _stages(
    options: Options, inputs: CycleInputs, screen: StageProgress, file: StageProgress
) -> tuple[GateResult, dict[str, Any]]:
    """The last gate's verdict and each stage's report."""
    policy, stages = inputs.policy, {}
    file.step(0, 3)
    if _enough_demonstrations(options, inputs):
        screen.say("Supervised training on the answers people wrote")
        run_sft(replace(options, out=options.out / "sft"), policy or inputs.model, inputs.demonstrations or Path())
        policy = str(options.out / "sft" / "policy")
        stages["sft"] = json.loads((options.out / "sft" / "report.json").read_bytes())
    file.step(1, 3)
    screen.say("Reward model")
    rewarded = run_reward(replace(options, out=options.out / "reward"), inputs.model, inputs.preferences)
    stages["reward"] = rewarded.as_json()
    result = reward_gate(rewarded, options.config.gates)
    if not result.passed:
        return result, stages
    screen.say(result.reason)
    file.step(2, 3)
    screen.say("Reinforcement learning")
    folder = options.out / "ppo"
    learned = run_ppo(replace(options, out=folder), inputs.model, policy, options.out / "reward", inputs.prompts)
    stages["ppo"] = learned.as_json()
    shutil.copyfile(folder / "curves.png", options.out / "curves.png")
    return policy_gate(learned, options.config.gates), stages


def _enough_demonstrations(options: Options, inputs: CycleInputs) -> bool:
    if inputs.demonstrations is None:
        return False
    return len(read_demonstrations(inputs.demonstrations)) >= options.config.min_demonstrations
