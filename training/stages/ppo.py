"""Reinforcement learning on files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from training.data import ANSWERS, Preference, Task
from training.errors import ConfigError
from training.models import RewardModel, TextCodec, load_causal_lm
from training.ppo import PPOPoint, PPOReport, Start, train_ppo
from training.runs import read_report
from training.stages.stage import (
    Options,
    fitting_text,
    open_stage,
    policy_inputs,
    say_truncations,
    say_wins,
)


@dataclass(frozen=True, slots=True)
class PPOInputs:
    """What a run works on.

    model: the base.
    reward_model: the folder of a reward model on it.
    prompts: a file or a dataset.
    policy: the version to start from, None for the base.
    champion: the version that the result must beat, None for `policy`.
    reference: where the KL is measured from, None for the base.
    preferences: what people said, which only `algorithm: dpo` learns from.
    """

    model: str
    reward_model: Path
    prompts: Path
    policy: str | None = None
    champion: str | None = None
    reference: str | None = None
    preferences: Path | None = None


def run_ppo(options: Options, given: PPOInputs, task: Task = ANSWERS) -> PPOReport:
    """Train the policy against a reward model, or by DPO, and save the result in `out/policy`.

    Raises:
        RankloopError: an input can't be used, or belongs to a different base.
    """
    config, text = options.config, task.text(options.config.text)
    records, pairs = task.prompts(given.prompts), _preferences(given, config.ppo.algorithm, task)
    inputs = policy_inputs(options, given.model, given.policy, given.reward_model, given.prompts, task)
    inputs |= {"champion": given.champion or given.policy, "reference": given.reference}
    inputs |= {"preferences": given.preferences} if pairs else {}
    with open_stage(options, "ppo", inputs) as progress:
        if progress is None:
            return PPOReport.from_json(read_report(options.out))
        base = load_causal_lm(given.model, options.device, frozen=True)
        codec = TextCodec.load(given.model, fitting_text(text, base, config.ppo.sampling.max_new_tokens))
        named = {"policy": given.policy, "reference": given.reference, "champion": given.champion or given.policy}
        start = Start(
            **{
                name: load_causal_lm(place, options.device, frozen=True)
                for name, place in named.items()
                if place not in {None, given.model}
            }
        )

        def show(point: PPOPoint, total: int) -> None:
            metrics = {name: value for name, value in asdict(point).items() if name != "iteration"}
            progress.step(point.iteration, total, metrics)
            progress.row(
                {
                    "iteration": point.iteration,
                    "reward": point.reward,
                    "kl nats": point.kl_nats,
                    "entropy nats": point.entropy_nats,
                    "answer tokens": point.answer_tokens,
                    "clipped": point.clip_share,
                }
            )

        report = train_ppo(
            base,
            start,
            codec,
            RewardModel.load(given.reward_model, base),
            records,
            config.ppo,
            options.out,
            preferences=pairs,
            on_point=show,
            on_answers=progress.evaluating,
            on_base_answers=progress.measuring,
        )
        say_truncations(progress, codec)
        if report.stopped:
            progress.say(report.stopped)
        say_wins(progress, report)
        progress.say(f"The policy is in {options.out / 'policy'}.")
        return report


def _preferences(given: PPOInputs, algorithm: str, task: Task) -> list[Preference]:
    """The preferences that the algorithm learns from: all for `dpo`, none for the others.

    Raises:
        ConfigError: `dpo` was given none.
    """
    if algorithm != "dpo":
        return []
    if given.preferences is None:
        raise ConfigError(
            "dpo learns from preferences", got="no preferences", remedy="Give the file with --preferences."
        )
    return task.preferences(given.preferences)[0]
