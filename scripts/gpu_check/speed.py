"""How fast a device proposes, takes a step of reward training and an iteration of PPO, and in how much memory."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from scripts.gpu_check.shapes import random_model, word_codec
from training.config import LoRAConfig, PPOConfig, SamplingConfig
from training.data import PromptRecord
from training.fast import autocast, hold_narrow
from training.models import RewardModel, TextCodec, pad_right
from training.ppo import PPOTrainer, Start
from training.preference_losses import bradley_terry_loss
from training.sampling import Sampler

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Load:
    """How much work is measured."""

    prompts: int = 64
    prompt_tokens: int = 30
    new_tokens: int = 50
    pairs: int = 16
    sequence_tokens: int = 50


SMOKE = Load(prompts=8, prompt_tokens=5, new_tokens=6, pairs=2, sequence_tokens=8)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: what of which shape, how long, how many tokens a second, and the peak of memory in GiB."""

    shape: str
    what: str
    seconds: float
    tokens_per_s: float
    peak_gib: float | None
    note: str = ""


def measure(shape: str, architecture: str, settings: dict[str, Any], device: torch.device, load: Load) -> Iterator[Row]:
    """Measure one shape; a part that doesn't fit or isn't installed is a row that says so."""
    base = random_model(architecture, settings, device)
    hold_narrow(base)
    codec = word_codec(int(base.config.vocab_size), int(base.config.eos_token_id))

    def row(what: str, tokens: int, work: Callable[[], Callable[[], object]]) -> Row:
        try:
            with _peak(device) as peak:
                seconds = _timed(work(), device)
        except torch.cuda.OutOfMemoryError:
            return Row(shape, what, 0.0, 0.0, None, "out of memory")
        return Row(shape, what, seconds, tokens / seconds, peak[0])

    answers = 2 * load.prompts * load.new_tokens
    yield row("propose, 2 answers a prompt", answers, lambda: _proposing(base, codec, load))
    tokens = 2 * load.pairs * load.sequence_tokens
    yield row("reward step, trunk included", tokens, lambda: _reward_step(base, load))
    modes: dict[str, dict[str, Any]] = {
        "layers": {},
        "layers, recomputed, 4 at a time": {"recompute_activations": True, "micro_batch_size": 4},
        "LoRA on every layer": {
            "trainable": "lora",
            "lora": LoRAConfig(),
            "trainable_layers": int(base.config.num_hidden_layers),
        },
    }
    for name, changes in modes.items():
        if "lora" in changes and importlib.util.find_spec("peft") is None:
            yield Row(shape, f"PPO iteration, {name}", 0.0, 0.0, None, "peft isn't installed")
            continue
        yield row(
            f"PPO iteration, {name}",
            load.prompts // 2 * load.new_tokens,
            lambda changes=changes: _ppo(base, codec, load, changes),
        )


def _proposing(base: Any, codec: TextCodec, load: Load) -> Callable[[], object]:
    sampler = Sampler(base, end_ids=(codec.eos_id,), pad_id=codec.pad_id)
    config = SamplingConfig(max_new_tokens=load.new_tokens)
    prompts = codec.encode_prompts([record.prompt for record in _prompts(load)])[: load.prompts]
    seeds = range(2 * len(prompts))
    return lambda: sampler.sample(prompts, config, seeds=seeds, answers_per_prompt=2)


def _reward_step(base: Any, load: Load) -> Callable[[], object]:
    model = RewardModel.on_base(base, 0.7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    device = model.base.device
    sequences = [[(row * 31 + step) % 30 + 1 for step in range(load.sequence_tokens)] for row in range(2 * load.pairs)]
    ids, mask = (part.to(device) for part in pad_right(sequences, 0))

    def step() -> None:
        with autocast(device, "auto", model.base.hidden_size):
            context = model.base.context(mask)
            scores = model.top_scores(model.trunk(ids, context), context, mask.sum(dim=1) - 1)[:, 0]
        optimizer.zero_grad(set_to_none=True)
        halves = scores[: load.pairs], scores[load.pairs :]
        bradley_terry_loss(*halves, torch.ones(load.pairs, device=device)).backward()
        optimizer.step()

    return step


def _ppo(base: Any, codec: TextCodec, load: Load, changes: dict[str, Any]) -> Callable[[], object]:
    count = load.prompts // 2
    config = PPOConfig(
        iterations=2,
        origin_answers=2,
        prompts_per_iteration=count,
        minibatch_size=count // 2,
        max_kl_nats=1e9,
        max_repetition=1.0,
        max_similarity_gain=1.0,
        min_entropy_share=0.0,
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=load.new_tokens),
    ).model_copy(update=changes)
    trainer = PPOTrainer(base, Start(), codec, RewardModel.on_base(base, 0.7), _prompts(load), config)
    trainer.measure_baseline()
    return trainer.iterate


def _prompts(load: Load) -> list[PromptRecord]:
    rows = range(3 * load.prompts)
    words = [[f"w{(row * 131 + step * 7) % 30 + 1}" for step in range(load.prompt_tokens)] for row in rows]
    return [PromptRecord(" ".join(parts)) for parts in words]


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """The seconds of a second run: the first one loads kernels and packs weights."""
    work()
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


@contextmanager
def _peak(device: torch.device) -> Iterator[list[float | None]]:
    """The peak of memory in GiB while the context lasts, in the list's first place; None on a CPU."""
    found: list[float | None] = [None]
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if device.type == "cuda":
        found[0] = torch.cuda.max_memory_allocated(device) / GIB


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
