"""The training loop: iterations with checkpoints, until done or out of bounds; then the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.atomic import atomic_folder
from training.config import PPOConfig
from training.data import Preference, PromptRecord
from training.errors import DivergedError
from training.evaluation import OnAnswers, PolicyEvaluation, evaluate_policy
from training.models import RewardModel, TextCodec
from training.ppo.bounds import check_bounds
from training.ppo.inputs import check_inputs, held_out_prompts, inputs_digest, seed_of
from training.ppo.report import PPOPoint, PPOReport
from training.ppo.trainer import PPOTrainer, Start
from training.runs import Checkpoints

OnPoint = Callable[[PPOPoint, int], None]
"""Called after every iteration with the new point of the curve and the total number of iterations."""


def train_ppo(
    base: Any,
    start: Start,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[PromptRecord],
    config: PPOConfig,
    out: Path,
    *,
    preferences: Sequence[Preference] = (),
    on_point: OnPoint | None = None,
    on_answers: OnAnswers | None = None,
    on_base_answers: OnAnswers | None = None,
) -> PPOReport:
    """Train a policy and save it in `out/policy`, with `out/report.json`; resume from a checkpoint found in `out`.

    Only prompts of the training split are answered; the others are for the final evaluation. Once the policy breaks a
    bound (KL, repetition, answers to different prompts alike, entropy) or a number is NaN or infinite, training stops,
    the last policy that was within all bounds is kept, and the report says why.

    Args:
        base, start, codec, reward_model, prompts, config, preferences: see `PPOTrainer`.
        out: where policy, report and checkpoints go.
        on_point: called after every iteration.
        on_answers: called during the final evaluation.
        on_base_answers: called while the base answers the training prompts, before the first iteration.

    Raises:
        DataError: there is no training prompt, or one is too long for the model.
        ConfigError: the settings don't suit the algorithm or the reward model.
        ModelError: the reward model or a policy has a different base.
        CheckpointError: `out` holds another run.
    """
    check_inputs(base, codec, reward_model, prompts, config)
    models = (base, start.policy, start.reference, start.champion, reward_model)
    digest = inputs_digest(models, codec, prompts, preferences, config)
    checkpoints = Checkpoints(out / "checkpoints", digest)
    trainer = PPOTrainer(base, start, codec, reward_model, prompts, config, preferences)
    if kept := checkpoints.latest():
        trainer.restore(kept[1])
    else:
        trainer.measure_baseline(on_base_answers)
        checkpoints.save(0, trainer.checkpoint())
    _train(trainer, checkpoints, on_point)
    trainer.reward_model.uncertainty_penalty = 0.0  # the evaluation uses plain scores

    def evaluate() -> PolicyEvaluation:
        return evaluate_policy(
            trainer.policy,
            codec,
            trainer.reward_model,
            held_out_prompts(prompts, config),
            config,
            seed=seed_of(config.seed, "evaluation"),
            reference=trainer.reference,
            champion=start.champion,
            on_answers=on_answers,
        )

    found = evaluate()
    if trainer.state.stopped is None:  # no iteration has measured the last policy yet
        try:
            check_bounds(found, trainer.state.baseline, config)
        except DivergedError as error:
            trainer.go_back(str(error))
            found = evaluate()
    state = trainer.state
    report = PPOReport(
        **{name: getattr(found, name) for name in PolicyEvaluation.__dataclass_fields__},
        algorithm=config.algorithm,
        reward_mean=state.curve[-1].reward if state.curve else None,
        truncated_prompts=codec.truncated_prompts,
        iterations=state.iteration,
        stopped=state.stopped,
        curve=tuple(state.curve),
    )
    with atomic_folder(out / "policy") as folder:
        trainer.policy.language_model.save_pretrained(folder, safe_serialization=True)
        codec.save(folder)
    report.save(out)
    return report


def _train(trainer: PPOTrainer, checkpoints: Checkpoints, on_point: OnPoint | None) -> None:
    config = trainer.config
    while trainer.state.iteration < config.iterations and trainer.state.stopped is None:
        try:
            point = trainer.iterate()
        except DivergedError as error:
            done = trainer.state.iteration
            trainer.go_back(str(error))
            checkpoints.save(done + 1, trainer.checkpoint())  # newer than any from before
            return
        done = trainer.state.iteration
        if done % config.checkpoint_every_iterations == 0 or done == config.iterations:
            checkpoints.save(done, trainer.checkpoint())
        if on_point:
            on_point(point, config.iterations)
