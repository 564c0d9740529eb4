"""A whole cycle on plain files, one stage after another; each resumes an unfinished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.cycle import Outcome, decide_on_policy, decide_on_reward_model, run_cycle
from training.data import dataset_digest, read_demonstrations, read_preferences
from training.evaluation import Gate
from training.runs import StageProgress, open_run, read_report
from training.stages import Options, PPOInputs, run_ppo, run_reward, run_sft

_TOLD = {"reward": "Reward model", "ppo": "Reinforcement learning"}
_STAGES = ("sft", "reward", "ppo")


@dataclass(frozen=True, slots=True)
class CycleInputs:
    """What a cycle works on.

    model: the base.
    policy: the version to start from, None for the base.
    preferences, prompts, demonstrations: files; the last is optional.
    """

    model: str
    policy: str | None
    preferences: Path
    prompts: Path
    demonstrations: Path | None = None


class FileSteps:
    """The steps of `training.cycle` on files: stages write to `out/sft`, `out/reward` and `out/ppo`."""

    def __init__(self, options: Options, screen: StageProgress) -> None:
        self._options = options
        self._out = options.out
        self._screen = screen

    def snapshot(self, _: CycleInputs) -> None:
        """Save the settings beside the results; the files themselves are the snapshot."""
        self._options.config.save(self._out / "config.json")

    def prepare(self, inputs: CycleInputs) -> dict[str, Any]:
        """Count the demonstrations in the files; each stage decides whether its data suffice."""
        found = len(read_demonstrations(inputs.demonstrations)) if inputs.demonstrations else 0
        return {"demonstrations": found, "fault": None}

    def sft(self, inputs: CycleInputs, demonstrations: int) -> bool:
        """See `CycleSteps`."""
        if inputs.demonstrations is None or demonstrations < self._options.config.min_demonstrations:
            return False
        self._screen.say("Supervised training on the answers people wrote")
        run_sft(self._stage("sft"), inputs.policy or inputs.model, inputs.demonstrations)
        return True

    def reward(self, inputs: CycleInputs) -> None:
        """See `CycleSteps`."""
        run_reward(self._stage("reward"), inputs.model, inputs.preferences)

    def reward_gate(self, _: CycleInputs) -> Gate:
        """See `CycleSteps`."""
        gate = decide_on_reward_model(self._out, self._options.config.gates)
        if gate["passed"]:
            self._screen.say(gate["reason"])
        return gate

    def ppo(self, inputs: CycleInputs, after_sft: bool) -> None:  # as in `CycleSteps`
        """See `CycleSteps`."""
        supervised = str(self._out / "sft" / "policy") if after_sft else None
        given = PPOInputs(
            inputs.model,
            self._out / "reward",
            inputs.prompts,
            policy=supervised or inputs.policy,
            champion=inputs.policy or inputs.model,
            reference=supervised,
            preferences=inputs.preferences,
        )
        run_ppo(self._stage("ppo"), given)
        shutil.copyfile(self._out / "ppo" / "curves.png", self._out / "curves.png")

    def policy_gate(self, _: CycleInputs) -> Gate:
        """See `CycleSteps`."""
        return decide_on_policy(self._out, self._options.config.gates)

    def register(self, _: CycleInputs) -> str:
        """The policy's folder is the version."""
        return str(self._out / "ppo" / "policy")

    def promote(self, _: CycleInputs, version: str) -> Outcome:
        """Do nothing: files serve nobody."""
        return {"status": "promoted", "reason": f"{version} is champion."}

    def finish(self, inputs: CycleInputs, status: str, reason: str) -> Outcome:
        """Write `report.json` with the reports of the stages that ran."""
        ran = [stage for stage in _STAGES if (self._out / stage / "report.json").is_file()]
        report = {
            "passed": status == "promoted",
            "reason": reason,
            "dataset_digest": dataset_digest(read_preferences(inputs.preferences)),
            "stages": {stage: read_report(self._out / stage) for stage in ran},
        }
        write_atomically(self._out / "report.json", json.dumps(report, indent=2) + "\n")
        return {"status": status, "reason": reason}

    def _stage(self, name: str) -> Options:
        return replace(self._options, out=self._out / name)


def run_cycle_on_files(options: Options, inputs: CycleInputs) -> bool:
    """Run a cycle and write `out/report.json`.

    Supervised training comes first if there are at least `min_demonstrations`. A failed gate ends the cycle; the
    report says why.

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
            screen.say(f"{options.out} already holds the result of this cycle.")
            return bool(read_report(options.out)["passed"])

        def do(name: str, step: Callable[..., Any], *arguments: Any) -> Any:
            if name in _STAGES:
                file.step(_STAGES.index(name), len(_STAGES))
            if name in _TOLD:
                screen.say(_TOLD[name])
            return step(*arguments)

        outcome = run_cycle(FileSteps(options, screen), inputs, do)
        file.step(len(_STAGES), len(_STAGES))
        passed = outcome["status"] == "promoted"
        screen.say(f"{'Passed' if passed else 'Not passed'}: {outcome['reason']}")
        return passed
