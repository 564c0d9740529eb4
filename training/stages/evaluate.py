"""A policy compared with its base, on files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from training.atomic import write_atomically
from training.data import ANSWERS, Preference, Split, Task, split_of
from training.errors import DataError
from training.evaluation import accuracy_with_interval, evaluate_policy
from training.models import PolicyWithValue, RewardModel, TextCodec, load_causal_lm
from training.stages.stage import Options, fitting_text, open_stage, policy_inputs, say_truncations, say_wins


def run_evaluate(
    options: Options,
    model: str,
    policy: str,
    reward_model: Path,
    prompts: Path,
    preferences: Path | None,
    task: Task = ANSWERS,
    *,
    all_prompts: bool,
) -> None:
    """Compare a policy with its base on prompts outside the training split; measure the reward model on test pairs.

    Raises:
        RankloopError: an input can't be used, or no prompt is held out.
    """
    config, text = options.config, task.text(options.config.text)
    records = task.prompts(prompts)
    chosen = [record for record in records if all_prompts or split_of(record.prompt) is not Split.TRAIN]
    pairs = task.preferences(preferences)[0] if preferences else []
    if not chosen:
        raise DataError(
            "no prompt is held out",
            got=f"{len(records)} prompts, all in the training split",
            remedy="Provide more prompts, or use --all-prompts for a file of prompts that were never trained on.",
        )
    inputs = policy_inputs(options, model, policy, reward_model, prompts, task)
    inputs |= {"preferences": preferences, "all prompts": all_prompts}
    with open_stage(options, "evaluate", inputs) as progress:
        if progress is None:
            return
        base = load_causal_lm(model, options.device, frozen=True)
        codec = TextCodec.load(model, fitting_text(text, base, config.ppo.sampling.max_new_tokens))
        judge = RewardModel.load(reward_model, base)
        learned = PolicyWithValue(
            base, load_causal_lm(policy, options.device, frozen=True), config.ppo.trainable_layers
        )
        found = evaluate_policy(
            learned,
            codec,
            judge,
            chosen,
            config.ppo,
            seed=config.ppo.seed,
            on_answers=progress.evaluating,
        )
        measured = _measure_reward_model(judge, codec, pairs)
        report = {**asdict(found), "truncated_prompts": codec.truncated_prompts, **measured}
        write_atomically(options.out / "report.json", json.dumps(report, indent=2) + "\n")
        progress.step(1, 1, {"win_rate_vs_base": found.win_rate_vs_base, "kl_nats": found.kl_nats})
        say_truncations(progress, codec)
        say_wins(progress, found)


def _measure_reward_model(judge: RewardModel, codec: TextCodec, pairs: list[Preference]) -> dict[str, object]:
    """The reward model's accuracy on test pairs with a winner; empty without preferences."""
    if not pairs:
        return {}
    test = [pair for pair in pairs if split_of(pair.prompt) is Split.TEST and not pair.is_tie]
    prompts = [pair.prompt for pair in test]
    chosen = judge.score_texts(codec, prompts, [pair.chosen for pair in test])
    rejected = judge.score_texts(codec, prompts, [pair.rejected for pair in test])
    accuracy, interval = accuracy_with_interval(int((chosen > rejected).sum()), len(test))
    return {"reward_accuracy": accuracy, "reward_accuracy_interval": interval, "reward_pairs": len(test)}
