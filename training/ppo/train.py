"""Reinforcement learning of the policy against the reward model, held near the base by a KL penalty.

Iterations (`training/ppo_trainer.py`) until there are enough or something runs away, with checkpoints between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.atomic import atomic_folder
from training.config import PPOConfig
from training.data.types import PromptRecord
from training.errors import DivergedError
from training.evaluation.policy import OnAnswers
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.held_out import report_of
from training.ppo.inputs import check_inputs, inputs_digest
from training.ppo.report import PPOPoint, PPOReport
from training.ppo.run import PPORun
from training.ppo.step import PPOTrainer
from training.runs.checkpoints import Checkpoints

OnPoint = Callable[[PPOPoint, int], None]
"""Called after every iteration with the new point of the curve and the number of iterations in all."""


def train_ppo(
    base: Any,
    policy: Any,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    config: PPOConfig,
    out: Path,
    *,
    on_point: OnPoint | None = None,
    on_answers: OnAnswers | None = None,
) -> PPOReport:
    """Train a policy and leave it in `out/policy` with `report.json`; go on from a checkpoint found in `out`.

    Only prompts of the training part are answered; the others serve the evaluation at the end. When the KL passes
    `config.max_kl_nats`, answers repeat themselves beyond `config.max_repetition`, or a number is none any more,
    training stops, the last good checkpoint is taken, and the report says why.

    Args:
        base: the base model (a transformers PreTrainedModel), the reference; it is frozen.
        policy: the version to start from (a PreTrainedModel, changed in place), None to start from the base.
        codec: the base's tokenizer and template.
        reward_model: on the same `base`.
        prompts: of all parts.
        config: hyperparameters.
        out: where policy, report and checkpoints go.
        on_point: called after every iteration.
        on_answers: called during the evaluation at the end.

    Raises:
        DataError: there is no training prompt, or one too long for the model.
        ConfigError: the algorithm and the number of answers a prompt don't go together.
        ModelError: reward model or policy don't stand on this base.
        CheckpointError: `out` holds another run.
    """
    check_inputs(base, codec, reward_model, prompts, config)
    digest = inputs_digest(base, policy, reward_model, codec, prompts, config)
    run = PPORun.fresh(base, policy, config)
    trainer = PPOTrainer(run, codec, reward_model, prompts, config)
    checkpoints = Checkpoints(out / "checkpoints", digest)
    if found := checkpoints.latest():
        run.restore(*found)
    else:
        trainer.measure_scale(base)
        checkpoints.save(0, run.state())
    _train(trainer, checkpoints, on_point)
    reward_model.uncertainty_penalty = 0.0  # what was reached is measured by the scores themselves
    report = report_of(run, base, codec, reward_model, prompts, config, on_answers)
    with atomic_folder(out / "policy") as folder:
        run.policy.language_model.save_pretrained(folder, safe_serialization=True)
        codec.save(folder)
    report.save(out)
    return report


def _train(trainer: PPOTrainer, checkpoints: Checkpoints, on_point: OnPoint | None) -> None:
    run, config = trainer.run, trainer.config
    while run.iteration < config.iterations and run.stopped is None:
        try:
            point = trainer.iterate()
        except DivergedError as error:
            _return_to_last_good(run, checkpoints, str(error))
            checkpoints.save(run.iteration, run.state())
            return
        if run.iteration % config.checkpoint_every_iterations == 0 or run.iteration == config.iterations:
            checkpoints.save(run.iteration, run.state())
        if on_point:
            on_point(point, config.iterations)


def _return_to_last_good(run: PPORun, checkpoints: Checkpoints, reason: str) -> None:
    """Take the newest checkpoint whose policy has been measured since, which the diverged one's hasn't."""
    failed, curve = run.iteration, list(run.curve)
    steps = checkpoints.steps()
    earlier = [step for step in steps if step < failed] or steps[:1]
    run.restore(earlier[-1], checkpoints.load(earlier[-1]))
    run.curve = curve
    run.stopped = f"Iteration {failed + 1}: {reason} The policy after iteration {run.iteration} is kept."
