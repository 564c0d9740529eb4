"""The end of reinforcement learning: the policy measured on held-out prompts, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.config import PPOConfig
from training.data.types import PromptRecord, Split
from training.data.votes import split_of
from training.evaluation.policy import OnAnswers, evaluate_policy
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.inputs import prompts_of, seed_of
from training.ppo.report import PPOReport
from training.ppo.run import PPORun


def held_out_prompts(prompts: Sequence[PromptRecord], config: PPOConfig) -> list[PromptRecord]:
    """The prompts outside the training part, in their order: all of them, or `evaluation_prompts` drawn by the seed."""
    found = [record for record in prompts if split_of(record.prompt) is not Split.TRAIN]
    if len(found) <= config.evaluation_prompts:
        return found
    drawn = prompts_of(0, config.evaluation_prompts, len(found), seed_of(config.seed, "evaluation prompts"))
    return [found[index] for index in sorted(drawn)]


def report_of(
    run: PPORun,
    base: Any,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    config: PPOConfig,
    on_answers: OnAnswers | None = None,
) -> PPOReport:
    """Measure a run's policy on held-out prompts.

    Args:
        run: at its end.
        base: the base model (a transformers PreTrainedModel).
        codec: the base's tokenizer and template.
        reward_model: on that base.
        prompts: of all parts.
        config: the run's.
        on_answers: called with how many prompts are answered, and of how many.
    """
    held_out = held_out_prompts(prompts, config)
    found = evaluate_policy(
        base,
        run.policy,
        codec,
        reward_model,
        held_out,
        config.sampling,
        seed=seed_of(config.seed, "evaluation"),
        precision=config.precision,
        on_answers=on_answers,
    )
    return PPOReport(
        kl_nats=found.kl_nats,
        win_rate_vs_base=found.win_rate,
        win_rate_interval=found.win_rate_interval,
        answer_tokens=found.answer_tokens,
        base_answer_tokens=found.base_answer_tokens,
        win_rate_vs_reference=found.win_rate_vs_reference,
        base_win_rate_vs_reference=found.base_win_rate_vs_reference,
        rouge=found.rouge,
        base_rouge=found.base_rouge,
        reward_mean=run.curve[-1].reward if run.curve else None,
        evaluated_prompts=len(held_out),
        truncated_prompts=codec.truncated_prompts,
        iterations=run.iteration,
        stopped=run.stopped,
        curve=tuple(run.curve),
    )
