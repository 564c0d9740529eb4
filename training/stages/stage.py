"""What all stages share: options, the run's folder, progress, and fitting prompts to the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from training.config import CycleConfig, TextConfig
from training.data import Task
from training.evaluation import PolicyEvaluation
from training.models import CONFIG_FILE, WEIGHTS_FILE, TextCodec, backbone_of
from training.runs import StageProgress, is_finished, open_run


@dataclass(frozen=True, slots=True)
class Options:
    """The options of every stage."""

    out: Path
    config: CycleConfig
    device: str = "auto"
    quiet: bool = False


@contextmanager
def open_stage(options: Options, stage: str, inputs: Mapping[str, object]) -> Iterator[StageProgress | None]:
    """Lock the folder and show progress; yields None if the same run has already finished.

    Under `accelerate launch` only the main process locks the folder and shows progress.
    """
    transformers_logging.disable_progress_bar()  # its bars for loading and saving would garble ours
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
            progress.say(f"{options.out} already holds this run's results.")
        yield None if finished else progress
        state.wait_for_everyone()


def policy_inputs(
    options: Options, model: str, policy: str | None, reward_model: Path, prompts: Path, task: Task
) -> dict[str, object]:
    """What determines the outcome of a stage that answers prompts with a policy, for `open_stage`."""
    return {
        "model": model,
        "policy": policy,
        "reward model": reward_model / WEIGHTS_FILE,
        "reward model's settings": reward_model / CONFIG_FILE,
        "prompts": prompts,
        "text settings": task.text(options.config.text),
        "ppo settings": options.config.ppo,
        **task.inputs(),
    }


def fitting_text(text: TextConfig, model: Any, new_tokens: int) -> TextConfig:
    """The text settings, with prompts limited so that an answer and its end of text still fit into the model."""
    return text.leaving_room(backbone_of(model).max_positions, new_tokens)


def say_truncations(progress: StageProgress, codec: TextCodec) -> None:
    """Report how many texts were cut because they were too long for the settings or for the model."""
    for kind, count, limit, place in (
        ("prompts", codec.truncated_prompts, codec.config.max_prompt_tokens, "beginning"),
        ("answers", codec.truncated_answers, codec.config.max_answer_tokens, "end"),
    ):
        if count:
            progress.say(f"{count} {kind} longer than {limit} tokens or the model's limit were cut at the {place}.")


def say_wins(progress: StageProgress, found: PolicyEvaluation) -> None:
    """Report how a policy's answers compare with the base's, and with answers that people wrote if there are any."""
    if found.win_rate_vs_base is None:
        progress.say("No prompt was held out, so it is unknown whether the policy improved.")
        return
    low, high = found.win_rate_interval
    progress.say(
        f"The policy's answers score higher than the base's in {found.win_rate_vs_base:.0%} of comparisons on held-out "
        f"prompts (95% interval {low:.0%} to {high:.0%}), at a KL of {found.kl_nats:.1f} nats."
    )
    if found.verdict:
        progress.say(found.verdict)
    if found.similarity is not None and found.base_similarity is not None:
        progress.say(
            f"Answers to two different prompts share {found.similarity:.1%} of their bigrams, "
            f"the base's {found.base_similarity:.1%}."
        )
    if found.win_rate_vs_reference is None or found.rouge is None or found.base_rouge is None:
        return
    progress.say(
        f"They score higher than the answers people wrote on {found.win_rate_vs_reference:.0%} of prompts, "
        f"the base's on {found.base_win_rate_vs_reference:.0%}."
    )
    kinds = ", ".join(f"{kind} {value:.3f} ({found.base_rouge[kind]:.3f})" for kind, value in found.rouge.items())
    progress.say(f"ROUGE F-measure against those answers, the base's in parentheses: {kinds}.")
