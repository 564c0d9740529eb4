"""Each stage on files: load what it needs, hold the folder, show progress, run. What the command line calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as transformers_logging

from training.config import CycleConfig
from training.models import load_causal_lm, trainable_layer_count
from training.preferences import read_demonstrations
from training.progress import StageProgress
from training.run_folder import is_finished, open_run
from training.text import TextCodec


@dataclass(frozen=True, slots=True)
class Options:
    """What all stages have in common."""

    out: Path
    config: CycleConfig
    device: str = "auto"
    quiet: bool = False


def run_sft(options: Options, model: str, data: Path) -> None:
    """Supervised training of `model` on a file of demonstrations; leaves `out/policy`."""
    from training.sft import train_sft
    from training.sft_report import SFTPoint

    config = options.config
    demonstrations = read_demonstrations(data)
    inputs = {"model": model, "data": data, "text settings": config.text, "sft settings": config.sft}
    with _stage(options, "sft", inputs) as progress:
        if progress is None:
            return
        language_model = load_causal_lm(model, options.device)
        codec = TextCodec.load(model, config.text)
        settings = config.sft
        if settings.trainable_layers is None:
            n_layers = language_model.config.num_hidden_layers
            count = trainable_layer_count(n_layers, config.ppo.trainable_layers)
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
        _say_truncations(progress, codec)
        progress.say(f"Kept step {report.best_step}. The model is in {options.out / 'policy'}.")


@contextmanager
def _stage(options: Options, stage: str, inputs: Mapping[str, object]) -> Iterator[StageProgress | None]:
    """Hold the folder and show progress; yields None where the same run is finished already.

    Of the processes of `accelerate launch` one holds the folder and speaks for all.
    """
    from accelerate import PartialState

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


def _say_truncations(progress: StageProgress, codec: TextCodec) -> None:
    for kind, count, limit in (
        ("prompts", codec.truncated_prompts, codec.config.max_prompt_tokens),
        ("answers", codec.truncated_answers, codec.config.max_answer_tokens),
    ):
        if count:
            progress.say(f"{count} {kind} were longer than {limit} tokens and were cut.")
