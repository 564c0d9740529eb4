"""Reward-model training on files."""

from __future__ import annotations

from pathlib import Path

from training.data import ANSWERS, Task
from training.models import TextCodec, load_causal_lm
from training.reward import RewardPoint, RewardReport, train_reward
from training.runs import read_report
from training.stages.stage import Options, open_stage, say_truncations


def run_reward(options: Options, model: str, preferences: Path, task: Task = ANSWERS) -> RewardReport:
    """Train a reward model on preferences, starting from the layers of the base `model`.

    Raises:
        RankloopError: an input can't be used, or there is too little to learn from.
    """
    config, text = options.config, task.text(options.config.text)
    pairs, left_out = task.preferences(preferences)
    inputs = {
        "model": model,
        "preferences": preferences,
        "text settings": text,
        "reward settings": config.reward,
        "min_preferences": config.gates.min_preferences,
        **task.inputs(),
    }
    with open_stage(options, "reward", inputs) as progress:
        if progress is None:
            return RewardReport.from_json(read_report(options.out))
        if left_out:
            progress.say(f"Left out {left_out} uninformative comparisons (no post, blank, or the same text twice).")
        base = load_causal_lm(model, options.device, frozen=True)
        codec = TextCodec.load(model, text)

        def show(point: RewardPoint, total: int) -> None:
            metrics = {
                "train_loss": point.train_loss,
                "validation_loss": point.validation_loss,
                "accuracy": point.accuracy,
            }
            progress.step(point.step, total, metrics)
            names = ("step", "train loss", "val loss", "accuracy")
            progress.row(dict(zip(names, (point.step, *metrics.values()), strict=True)))

        report = train_reward(
            base,
            codec,
            pairs,
            config.reward,
            options.out,
            min_preferences=config.gates.min_preferences,
            on_point=show,
        )
        say_truncations(progress, codec)
        for sentence in report.in_words():
            progress.say(sentence)
        return report
