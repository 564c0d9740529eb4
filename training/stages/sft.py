"""Supervised training on files."""

from __future__ import annotations

from pathlib import Path

from training.data import ANSWERS, Task
from training.models import TextCodec, load_causal_lm, trainable_layer_count
from training.sft import SFTPoint, train_sft
from training.stages.stage import Options, open_stage, say_truncations


def run_sft(options: Options, model: str, data: Path, task: Task = ANSWERS) -> None:
    """Train `model` on demonstrations and save the result in `out/policy`.

    Raises:
        RankloopError: an input can't be used, or training diverged.
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
