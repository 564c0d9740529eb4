"""What all stages have in common: options, the run's folder, progress, and how prompts fit the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from training.config import CycleConfig, TextConfig
from training.evaluation.policy import PolicyEvaluation
from training.models.architectures import backbone_of
from training.models.reward import CONFIG_FILE, WEIGHTS_FILE
from training.models.text import TextCodec
from training.ppo.report import PPOReport
from training.reward.report import RewardReport
from training.runs.folder import is_finished, open_run
from training.runs.progress import StageProgress


@dataclass(frozen=True, slots=True)
class Options:
    """What all stages have in common."""

    out: Path
    config: CycleConfig
    device: str = "auto"
    quiet: bool = False


@contextmanager
def open_stage(options: Options, stage: str, inputs: Mapping[str, object]) -> Iterator[StageProgress | None]:
    """Hold the folder and show progress; yields None where the same run is finished already.

    Of the processes of `accelerate launch` one holds the folder and speaks for all.
    """
    transformers_logging.disable_progress_bar()  # its bars for loading and saving would tear ours apart
    state = PartialState(cpu=options.device == "cpu")
    with ExitStack() as stack:
        if state.num_processes > 1:
            stack.callback(state.destroy_process_group)
        finished = stack.enter_context(open_run(options.out, stage, inputs)) if state.is_main_process else None
        state.wait_for_everyone()
        if finished is None:
            finished, folder, quiet = is_finished(options.out), None, True
        else:
            folder, quiet = options.out, options.quiet
        progress = stack.enter_context(StageProgress(folder, stage, quiet=quiet))
        if finished:
            progress.say(f"{options.out} holds this run's outcome already.")
        yield None if finished else progress
        state.wait_for_everyone()


def reward_model_inputs(folder: Path) -> dict[str, object]:
    """The files of a reward model's folder that decide a run's outcome."""
    return {"reward model": folder / WEIGHTS_FILE, "reward model's settings": folder / CONFIG_FILE}


def fitting_text(text: TextConfig, model: Any, new_tokens: int) -> TextConfig:
    """The text settings, with prompts cut so far that an answer and its end fit behind them into the model."""
    room = max(1, backbone_of(model).max_positions - new_tokens - 1)
    return text.model_copy(update={"max_prompt_tokens": min(text.max_prompt_tokens, room)})


def say_truncations(progress: StageProgress, codec: TextCodec) -> None:
    """Tell how many texts were too long, for the settings or for the model, and were cut."""
    for kind, count, limit, place in (
        ("prompts", codec.truncated_prompts, codec.config.max_prompt_tokens, "beginning"),
        ("answers", codec.truncated_answers, codec.config.max_answer_tokens, "end"),
    ):
        if count:
            progress.say(f"{count} {kind} too long (for {limit} tokens, or for the model) were cut at the {place}.")


def say_agreement(progress: StageProgress, report: RewardReport) -> None:
    """Tell the accuracy by annotators' agreement, where some pairs were judged by several."""
    groups = {name: group for name, group in report.accuracy_by_agreement.items() if group.accuracy is not None}
    if groups.keys() - {"one vote"}:
        parts = (f"{name} {group.accuracy:.0%} of {group.pairs}" for name, group in groups.items())
        progress.say(f"By agreement of the people who judged held-out pairs: {', '.join(parts)}.")


def say_references(progress: StageProgress, found: PPOReport | PolicyEvaluation) -> None:
    """Tell how answers compare with those that people wrote, where there are such."""
    if found.win_rate_vs_reference is None or found.rouge is None or found.base_rouge is None:
        return
    progress.say(
        f"They score higher than the answers people wrote on {found.win_rate_vs_reference:.0%} of prompts, "
        f"the base's on {found.base_win_rate_vs_reference:.0%}."
    )
    kinds = ", ".join(f"{kind} {value:.3f} ({found.base_rouge[kind]:.3f})" for kind, value in found.rouge.items())
    progress.say(f"ROUGE F-measure against these, the base's in brackets: {kinds}.")
