"""Reinforcement learning on files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from training.data import ANSWERS, Task
from training.models import RewardModel, TextCodec, load_causal_lm
from training.ppo import PPOPoint, PPOReport, train_ppo
from training.runs import read_report
from training.stages.stage import (
    Options,
    fitting_text,
    open_stage,
    policy_inputs,
    say_truncations,
    say_wins,
)


def run_ppo(
    options: Options, model: str, policy: str | None, reward_model: Path, prompts: Path, task: Task = ANSWERS
) -> PPOReport:
    """Train `policy` (or the base `model` if None) against a reward model, and save the result in `out/policy`.

    Raises:
        RankloopError: an input can't be used, or belongs to a different base.
    """
    config, text = options.config, task.text(options.config.text)
    records = task.prompts(prompts)
    inputs = policy_inputs(options, model, policy, reward_model, prompts, task)
    with open_stage(options, "ppo", inputs) as progress:
        if progress is None:
            return PPOReport.from_json(read_report(options.out))
        base = load_causal_lm(model, options.device, frozen=True)
        codec = TextCodec.load(model, fitting_text(text, base, config.ppo.sampling.max_new_tokens))

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
            load_causal_lm(policy, options.device, frozen=True) if policy else None,
            codec,
            RewardModel.load(reward_model, base),
            records,
            config.ppo,
            options.out,
            on_point=show,
            on_answers=progress.evaluating,
        )
        say_truncations(progress, codec)
        if report.stopped:
            progress.say(report.stopped)
        say_wins(progress, report)
        progress.say(f"The policy is in {options.out / 'policy'}.")
        return report
