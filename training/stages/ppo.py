"""Each stage on files: load what it needs, hold the folder, show progress, run. What the command line calls.

Each leaves `report.json`, `curves.png` and `progress.json` in its folder, and does nothing where it is done already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.data.tasks import Task
from training.data.types import Preference, Split
from training.data.votes import split_of
from training.errors import DataError
from training.evaluation.gates import accuracy_with_interval
from training.evaluation.policy import evaluate_policy
from training.models.policy import PolicyWithValue, load_causal_lm, trainable_layer_count
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.report import PPOPoint, PPOReport
from training.ppo.train import train_ppo
from training.reward.report import RewardPoint, RewardReport
from training.reward.tune import train_reward
from training.sft.report import SFTPoint
from training.sft.train import train_sft
from training.stages.stage import (
    Options,
    fitting_text,
    open_stage,
    reward_model_inputs,
    say_agreement,
    say_references,
    say_truncations,
)

_ANSWERS = Task()


def run_sft(options: Options, model: str, data: Path, task: Task = _ANSWERS) -> None:
    """Supervised training of `model` on demonstrations; leaves `out/policy`.

    Raises:
        RankloopError: an input can't be used, or training ran away.
    """
    config = options.config
    demonstrations, text = task.demonstrations(data), task.text(config.text)
    inputs = {"model": model, "data": data, "text settings": text, "sft settings": config.sft, **task.inputs()}
    with open_stage(options, "sft", inputs) as progress:
        if progress is None:
            return
        language_model = load_causal_lm(model, options.device)
        codec = TextCodec.load(model, text)
        settings = config.sft
        if settings.trainable_layers is None:
            count = trainable_layer_count(language_model.config.num_hidden_layers, config.ppo.trainable_layers)
            settings = settings.model_copy(update={"trainable_layers": count})

        def show(point: SFTPoint) -> None:
            progress.row({"step": point.step, "train loss": point.train_loss, "val loss": point.validation_loss})

        report = train_sft(
            language_model,
            codec,
            demonstrations,
            settings,
            options.out,
            on_step=lambda step, total, loss: progress.step(step, total, {"train_loss": loss}),
            on_point=show,
        )
        say_truncations(progress, codec)
        progress.say(f"Kept step {report.best_step}. The model is in {options.out / 'policy'}.")


def run_reward(options: Options, model: str, preferences: Path, task: Task = _ANSWERS) -> RewardReport:
    """Train a reward model on preferences, from the layers of the base `model`.

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
            return RewardReport.from_json(_read_report(options.out))
        if left_out:
            progress.say(f"{left_out} comparisons say nothing and were left out (no post, blank, the same text twice).")
        base = load_causal_lm(model, options.device)
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
        low, high = report.accuracy_interval
        measured = report.n["test"] - report.ties["test"]
        accuracy = report.accuracy["test"]
        found = "unknown" if accuracy is None else f"{accuracy:.0%} (95% interval {low:.0%} to {high:.0%})"
        progress.say(f"Kept epoch {report.best_epoch}. Accuracy on {measured} test pairs: {found}.")
        say_agreement(progress, report)
        return report


def run_ppo(
    options: Options, model: str, policy: str | None, reward_model: Path, prompts: Path, task: Task = _ANSWERS
) -> PPOReport:
    """Reinforcement learning from `policy` (else from the base `model`) against a reward model; leaves `out/policy`.

    Raises:
        RankloopError: an input can't be used, or doesn't stand on this base.
    """
    config, text = options.config, task.text(options.config.text)
    records = task.prompts(prompts)
    inputs = {
        "model": model,
        "policy": policy,
        **reward_model_inputs(reward_model),
        "prompts": prompts,
        "text settings": text,
        "ppo settings": config.ppo,
        **task.inputs(),
    }
    with open_stage(options, "ppo", inputs) as progress:
        if progress is None:
            return PPOReport.from_json(_read_report(options.out))
        base = load_causal_lm(model, options.device)
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
            load_causal_lm(policy, options.device) if policy else None,
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
        progress.say(f"{_win_sentence(asdict(report), report.win_rate_vs_base)} It is in {options.out / 'policy'}.")
        say_references(progress, report)
        return report


def run_evaluate(
    options: Options,
    model: str,
    policy: str,
    reward_model: Path,
    prompts: Path,
    preferences: Path | None,
    task: Task = _ANSWERS,
    *,
    all_prompts: bool,
) -> None:
    """Compare a policy with its base on prompts outside the training part; measure the reward model on test pairs.

    Raises:
        RankloopError: an input can't be used, or there is nothing held out.
    """
    config, text = options.config, task.text(options.config.text)
    records = task.prompts(prompts)
    chosen = [record for record in records if all_prompts or split_of(record.prompt) is not Split.TRAIN]
    pairs = task.preferences(preferences)[0] if preferences else []
    if not chosen:
        raise DataError(
            "no prompt is held out",
            got=f"{len(records)} prompts, all in the training part",
            remedy="Bring more prompts, or use --all-prompts for a file of prompts that were never trained on.",
        )
    inputs = {
        "model": model,
        "policy": policy,
        **reward_model_inputs(reward_model),
        "prompts": prompts,
        "preferences": preferences,
        "all prompts": all_prompts,
        "text settings": text,
        "ppo settings": config.ppo,
        **task.inputs(),
    }
    with open_stage(options, "evaluate", inputs) as progress:
        if progress is None:
            return
        base = load_causal_lm(model, options.device)
        codec = TextCodec.load(model, fitting_text(text, base, config.ppo.sampling.max_new_tokens))
        judge = RewardModel.load(reward_model, base)
        learned = PolicyWithValue(base, load_causal_lm(policy, options.device), config.ppo.trainable_layers)
        found = evaluate_policy(
            base,
            learned,
            codec,
            judge,
            chosen,
            config.ppo.sampling,
            seed=config.ppo.seed,
            on_answers=progress.evaluating,
        )
        measured = _measure_reward_model(judge, codec, pairs)
        report = {
            **asdict(found),
            "prompts": len(chosen),
            "truncated_prompts": codec.truncated_prompts,
            **measured,
        }
        write_atomically(options.out / "report.json", json.dumps(report, indent=2) + "\n")
        progress.step(1, 1, {"win_rate_vs_base": found.win_rate, "kl_nats": found.kl_nats})
        say_truncations(progress, codec)
        progress.say(_win_sentence(report, found.win_rate))
        say_references(progress, found)


def _measure_reward_model(judge: RewardModel, codec: TextCodec, pairs: list[Preference]) -> dict[str, object]:
    """The reward model's accuracy on test pairs with a winner; nothing where no preferences were given."""
    if not pairs:
        return {}
    test = [pair for pair in pairs if split_of(pair.prompt) is Split.TEST and not pair.is_tie]
    prompts = [pair.prompt for pair in test]
    chosen = judge.score_texts(codec, prompts, [pair.chosen for pair in test])
    rejected = judge.score_texts(codec, prompts, [pair.rejected for pair in test])
    accuracy, interval = accuracy_with_interval(int((chosen > rejected).sum()), len(test))
    return {"reward_accuracy": accuracy, "reward_accuracy_interval": interval, "reward_pairs": len(test)}


def _win_sentence(report: Mapping[str, Any], win_rate: float | None) -> str:
    if win_rate is None:
        return "No prompt was held out, so nothing shows whether the policy became better."
    low, high = report["win_rate_interval"]
    return (
        f"The policy's answers score higher than the base's on {win_rate:.0%} of held-out prompts "
        f"(95% interval {low:.0%} to {high:.0%}), at a KL of {report['kl_nats']:.1f} nats."
    )


def _read_report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_bytes())
    return report
