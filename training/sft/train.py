"""Supervised training: maximum likelihood of answers people wrote, or of whole texts for a model from scratch.

Under `accelerate launch` each process takes its share of every batch; the losses are the same as in one process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from training.atomic import atomic_folder
from training.config import SFTConfig
from training.data import Demonstration, Split
from training.errors import DataError, DivergedError
from training.fast import autocast
from training.lora import add_adapters, merge_adapters
from training.models import TextCodec, backbone_of, trainable_layer_count
from training.runs import Checkpoints, run_digest, warmup_then_cosine
from training.sft.answer_loss import AnswerLoss
from training.sft.examples import Example, batches_of_epoch, examples_by_split, tensors_of
from training.sft.report import SFTPoint, SFTReport

OnStep = Callable[[int, int, float], None]
"""Called after every step with the number of steps taken, the total number of steps, and the batch's loss."""
OnPoint = Callable[[SFTPoint], None]
"""Called with every new point of the curve."""


@dataclass(slots=True)
class _Progress:
    """A run's state besides weights and optimizer; all of it goes into a checkpoint."""

    step: int = 0
    losses: list[float] = field(default_factory=list)  # since the last point of the curve
    curve: list[SFTPoint] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)


class _Run:
    """One training run: model, optimizer and progress, on this process's share of every batch."""

    def __init__(self, model: Any, codec: TextCodec, config: SFTConfig, examples: dict[Split, list[Example]]) -> None:
        self.accelerator = Accelerator(cpu=model.device.type == "cpu")
        self.model = model
        depth = _choose_trained(model, config)
        self.trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        decayed = [value for value in self.trained.values() if value.ndim >= 2]
        others = [value for value in self.trained.values() if value.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)
        several = self.accelerator.num_processes > 1
        self.loss, self.optimizer = self.accelerator.prepare(
            AnswerLoss(model, depth, recompute=config.recompute_activations),
            optimizer,
            device_placement=[several, several],
        )
        self.pad_id, self.config, self.examples = codec.pad_id, config, examples
        self.steps_per_epoch = math.ceil(len(examples[Split.TRAIN]) / config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.progress = _Progress()

    def train_step(self, batch: Sequence[Example]) -> float:
        """One optimizer step; returns the batch's loss in nats per token."""
        factor = warmup_then_cosine(self.progress.step, self.total_steps, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, so each process's share is scaled up to the whole batch's mean.
        scale = self.accelerator.num_processes / sum(example.targets for example in batch)
        losses = []
        for part in self._micro_batches(batch):
            loss = self._sum(part) * scale
            self.accelerator.backward(loss)
            losses.append(loss.detach())
        value = float(self.accelerator.reduce(torch.stack(losses).sum(), "mean"))
        self._check_finite(value)
        norm = self.accelerator.clip_grad_norm_(list(self.trained.values()), self.config.max_grad_norm)
        self._check_finite(float(norm))
        self.optimizer.step()
        self.progress.step += 1
        self.progress.losses.append(value)
        return value

    def record(self) -> SFTPoint:
        """Measure the validation loss, add a point to the curve, and keep the weights if they are the best so far."""
        progress = self.progress
        train_loss = sum(progress.losses) / len(progress.losses)
        validation_loss = self._validation_loss()
        self._check_finite(validation_loss)
        progress.curve.append(SFTPoint(progress.step, train_loss, validation_loss))
        progress.losses.clear()
        if validation_loss is None or validation_loss < progress.best_loss:
            progress.best_step = progress.step
            progress.best_loss = math.inf if validation_loss is None else validation_loss
            progress.best_weights = {name: value.detach().clone() for name, value in self.trained.items()}
        return progress.curve[-1]

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {
            "weights": {name: value.detach() for name, value in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "progress": {
                **{item.name: getattr(self.progress, item.name) for item in fields(self.progress)},
                "curve": [asdict(point) for point in self.progress.curve],
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.take(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        kept = dict(state["progress"])
        kept["curve"] = [SFTPoint(**point) for point in kept["curve"]]
        self.progress = _Progress(**kept)

    def take(self, weights: dict[str, Tensor]) -> None:
        """Set the trained weights."""
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])

    def _check_finite(self, loss: float | None) -> None:
        if loss is not None and not math.isfinite(loss):
            raise DivergedError(
                "supervised training diverged",
                got=f"a loss or a gradient of {loss} at step {self.progress.step + 1}",
                remedy=f"The last good checkpoint is kept. Lower sft.learning_rate ({self.config.learning_rate}).",
            )

    def _micro_batches(self, batch: Sequence[Example]) -> Iterator[Sequence[Example]]:
        """The batch in parts that fit into memory: each process takes `micro_batch_size` of a part."""
        size = (self.config.micro_batch_size or len(batch)) * self.accelerator.num_processes
        return (batch[start : start + size] for start in range(0, len(batch), size))

    def _sum(self, batch: Sequence[Example]) -> Tensor:
        """This process's part of the batch's summed loss."""
        own = batch[self.accelerator.process_index :: self.accelerator.num_processes]
        ids, mask, targets = tensors_of(own or batch[:1], self.pad_id)
        if not own:  # every process must take part in every step
            targets = targets & False
        device = self.model.device
        with autocast(device, self.config.precision):
            total: Tensor = self.loss(ids.to(device), mask.to(device), targets.to(device))
        return total

    @torch.no_grad()
    def _validation_loss(self) -> float | None:
        examples = sorted(self.examples[Split.SELECTION], key=lambda example: len(example.ids))
        if not examples:
            return None
        starts = range(0, len(examples), self.config.batch_size)
        batches = (examples[start : start + self.config.batch_size] for start in starts)
        total = torch.stack([self._sum(part) for batch in batches for part in self._micro_batches(batch)]).sum()
        return float(self.accelerator.reduce(total, "sum")) / sum(example.targets for example in examples)


def train_sft(
    model: Any,
    codec: TextCodec,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    out: Path,
    *,
    on_step: OnStep | None = None,
    on_point: OnPoint | None = None,
) -> SFTReport:
    """Train `model` in place and save it in `out/policy`, with `out/report.json`; resume from a checkpoint in `out`.

    The weights with the lowest validation loss are kept, or the last ones if no demonstration falls into the selection
    split. Every random choice depends only on (seed, epoch), so a resumed run equals an uninterrupted one.

    Args:
        model: a transformers PreTrainedModel.
        codec: its tokenizer and template.
        demonstrations: their prompts decide which split they belong to.
        config: hyperparameters.
        out: where policy, report and checkpoints go.
        on_step: called after every step.
        on_point: called with every new point of the curve.

    Raises:
        DataError: no demonstration falls into the training split.
        CheckpointError: `out` holds another run.
        DivergedError: the loss or its gradient is NaN or infinite.
    """
    examples = examples_by_split(
        codec, demonstrations, backbone_of(model).max_positions, learn_prompts=config.learn_prompts
    )
    if not examples[Split.TRAIN]:
        raise DataError(
            "no demonstration to train on",
            got=f"{len(demonstrations)} demonstrations, none of whose prompts is in the training split",
            remedy="Write or rewrite more answers.",
        )
    checkpoints = Checkpoints(out / "checkpoints", _digest(model, codec, demonstrations, config))
    run = _Run(model, codec, config, examples)
    if found := checkpoints.latest():
        run.restore(found[1])
    _train(run, checkpoints, on_step, on_point)
    run.take(run.progress.best_weights)
    merge_adapters(model)
    report = _report(run, codec)
    if run.accelerator.is_main_process:
        with atomic_folder(out / "policy") as folder:
            model.save_pretrained(folder, safe_serialization=True)
            codec.save(folder)
        report.save(out)
    run.accelerator.wait_for_everyone()
    return report


def _train(run: _Run, checkpoints: Checkpoints, on_step: OnStep | None, on_point: OnPoint | None) -> None:
    while run.progress.step < run.total_steps:
        epoch, done = divmod(run.progress.step, run.steps_per_epoch)
        batches = batches_of_epoch(run.examples[Split.TRAIN], run.config.batch_size, run.config.seed, epoch)
        for batch in batches[done:]:
            loss = run.train_step(batch)
            if on_step:
                on_step(run.progress.step, run.total_steps, loss)
            if run.progress.step % run.config.checkpoint_every_steps and run.progress.step < run.total_steps:
                continue
            point = run.record()
            if run.accelerator.is_main_process:
                checkpoints.save(run.progress.step, run.state())
            if on_point:
                on_point(point)


def _choose_trained(model: Any, config: SFTConfig) -> int:
    """Freeze what isn't trained and add adapters if asked for; returns how many blocks lie below what is trained."""
    backbone, layers = backbone_of(model), config.trainable_layers
    count = backbone.n_layers if layers == "all" else trainable_layer_count(backbone.n_layers, layers)
    depth = backbone.n_layers - count
    everything = layers == "all" and config.trainable == "layers"
    model.requires_grad_(requires_grad=everything)
    if config.trainable == "lora":
        add_adapters(backbone.top(depth), config.lora)
    elif not everything:
        backbone.top(depth).requires_grad_(requires_grad=True)
    return depth


def _digest(model: Any, codec: TextCodec, demonstrations: Sequence[Demonstration], config: SFTConfig) -> str:
    backbone = backbone_of(model)
    weights = backbone.trunk_digest(backbone.n_layers)
    texts = json.dumps([[item.prompt, item.answer] for item in demonstrations])
    return run_digest("sft", weights, texts, codec.config.model_dump_json(), config.model_dump_json())


def _report(run: _Run, codec: TextCodec) -> SFTReport:
    progress = run.progress
    best = next(point for point in progress.curve if point.step == progress.best_step)
    return SFTReport(
        n={split.value: len(examples) for split, examples in run.examples.items()},
        best_step=best.step,
        train_loss=best.train_loss,
        validation_loss=best.validation_loss,
        trained_parameters=sum(value.numel() for value in run.trained.values()),
        curve=tuple(progress.curve),
        truncated_prompts=codec.truncated_prompts,
        truncated_answers=codec.truncated_answers,
    )
