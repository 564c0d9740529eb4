"""Sampling answers: for rollouts, for evaluation and for the pairs that people judge.

An answer's random numbers come from its seed alone, and the same batch gives the same answers. In float32 an answer
doesn't depend on the rest of its batch either, except where two tokens are so nearly tied that sums in another order
tip the choice. In bfloat16 that happens often: see "What the same seed promises" in docs/benchmarks.md.

Legend: N prompts, B answers, T tokens of the longest answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from training.config import SamplingConfig
from training.errors import ConfigError, DataError
from training.fast import SamplingPrecision
from training.models import pad_left
from training.sampling.choose import choose_tokens, uniforms
from training.sampling.decoders import Engine, engine_for

_CACHE_BYTES = 2**30  # of main memory for the keys and values of a batch
_CACHE_SHARE = 0.5  # of what is free on a GPU, the rest being for activations and logits
_BYTES_PER_LOGIT = 16  # a row's next-token logits with what choosing from them takes
_KEPT_WHILE = 0.75  # compacting the cache pays once a quarter of its rows are done
_LOOK_EVERY = 8  # tokens between looks at which answers have ended on a GPU, which waits for each look

OnStep = Callable[[int, int], None]
"""Called after every token (every 8th on a GPU) with the number of finished answers and of answers in all."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Sampled answers, on the CPU, padded on the right.

    tokens: (B, T) long.
    mask: (B, T) bool, real tokens, end of text included.
    ended: (B,) bool, whether the answer reached its end of text.
    """

    tokens: Tensor
    mask: Tensor
    ended: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.tokens.to(device), self.mask.to(device), self.ended.to(device))

    def answers(self) -> list[list[int]]:
        """Each answer's real tokens."""
        lengths = self.mask.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def rows(self, index: Tensor) -> Self:
        """The answers at `index` (M,) long."""
        return type(self)(self.tokens[index], self.mask[index], self.ended[index])


class Sampler:
    """Samples from a model with its current weights, so that one sampler serves a whole training run.

    Several threads may use one sampler. The model is prepared for decoding when the first answer is sampled.

    Args:
        model: a transformers PreTrainedModel.
        end_ids: the tokens that end an answer.
        pad_id: the padding token; it is never sampled unless it is an end token.
        precision: number format of matrix products; `auto` is bfloat16 where that is faster.

    Attributes:
        truncated_prompts: how many prompts have been cut so far to leave room for the answer.
    """

    def __init__(
        self, model: Any, *, end_ids: Collection[int], pad_id: int, precision: SamplingPrecision = "auto"
    ) -> None:
        self.model = model
        self.precision: SamplingPrecision = precision
        self.end_ids = tuple(end_ids)
        self.pad_id = pad_id
        self.truncated_prompts = 0
        self._engine: Engine | None = None
        self._preparing = threading.Lock()

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        config: SamplingConfig,
        *,
        seeds: Sequence[int],
        answers_per_prompt: int = 1,
        on_step: OnStep | None = None,
    ) -> Samples:
        """Sample answers to prompts, prompt-major: B = N * answers_per_prompt.

        A prompt that leaves no room for `max_new_tokens` loses its beginning, and is counted.

        Args:
            prompts: token ids, at least one each.
            config: temperature, top-k, top-p, length. `top_k` 1 is greedy.
            seeds: B of them, one per answer.
            answers_per_prompt: number of answers to each prompt.
            on_step: called as answers grow.

        Raises:
            DataError: a prompt is empty.
            ConfigError: `max_new_tokens` leaves no room for a prompt.
        """
        rows = len(prompts) * answers_per_prompt
        if len(seeds) != rows:
            raise ConfigError("each answer needs a seed", got=f"{len(seeds)} seeds", expected=f"{rows}")
        fitted = [self._fit(prompt, config.max_new_tokens) for prompt in prompts]
        found = _empty(rows, config.max_new_tokens, self.pad_id)
        draws = uniforms(seeds, config.max_new_tokens)
        order = sorted(range(len(fitted)), key=lambda index: len(fitted[index]))
        engine = self._take_weights()
        done = 0
        for group in self._groups(engine, order, fitted, config.max_new_tokens, answers_per_prompt):
            places = torch.tensor([i * answers_per_prompt + k for i in group for k in range(answers_per_prompt)])

            def report(finished: int, before: int = done) -> None:
                if on_step:
                    on_step(before + finished, rows)

            part = self._decode(engine, [fitted[i] for i in group], draws[places], config, report)
            for whole, piece in zip((found.tokens, found.mask, found.ended), part, strict=True):
                whole[places] = piece
            done += len(places)
        width = int(found.mask.sum(dim=1).max()) if rows else 0
        return Samples(found.tokens[:, :width], found.mask[:, :width], found.ended)

    def _decode(
        self,
        engine: Engine,
        prompts: Sequence[Sequence[int]],
        draws: Tensor,
        config: SamplingConfig,
        report: Callable[[int], None],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, mask and `ended` flags of one batch."""
        device, last = self.model.device, config.max_new_tokens - 1
        ids, mask = (part.to(device) for part in pad_left(prompts, self.pad_id))
        decoder = engine.start(ids, mask, copies=len(draws) // len(prompts))
        out = _empty(len(draws), config.max_new_tokens, self.pad_id).to(device)
        draws, ends = draws.to(device), torch.tensor(self.end_ids, dtype=torch.long, device=device)
        never = None if self.pad_id in self.end_ids else self.pad_id
        rows = torch.arange(len(draws), device=device)  # the answer that each of the decoder's rows belongs to
        every = 1 if device.type == "cpu" else _LOOK_EVERY
        for step in range(config.max_new_tokens):
            chosen = choose_tokens(decoder.logits, draws[rows, step], config, never)
            running = ~out.ended[rows]
            out.tokens[rows, step] = torch.where(running, chosen, self.pad_id)
            out.mask[rows, step] = running
            out.ended[rows] |= torch.isin(chosen, ends)
            if step == last or step % every == every - 1:
                running = ~out.ended[rows]
                alive = int(running.sum())
                report(len(draws) - alive)
                if alive == 0 or step == last:
                    break
                if alive <= _KEPT_WHILE * len(rows):
                    kept = running.nonzero().squeeze(1)
                    rows, chosen = rows[kept], chosen[kept]
                    decoder.keep(kept)
            decoder.advance(chosen)
        return out.tokens.cpu(), out.mask.cpu(), out.ended.cpu()

    def _take_weights(self) -> Engine:
        """An engine with the model's current weights, on the model's current device."""
        with self._preparing:
            if self._engine is not None and self._engine.fits(self.model):
                self._engine.refresh()
            else:
                self._engine = engine_for(self.model, self.precision)
            return self._engine

    def _fit(self, prompt: Sequence[int], new_tokens: int) -> Sequence[int]:
        if not prompt:
            raise DataError("a prompt has no tokens", expected="at least one token per prompt")
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is None:
            return prompt  # a model without learned positions reads any length
        fitted = fit_prompt(prompt, positions, new_tokens)
        self.truncated_prompts += len(fitted) < len(prompt)
        return fitted

    def _groups(
        self, engine: Engine, order: Sequence[int], prompts: Sequence[Sequence[int]], new_tokens: int, copies: int
    ) -> list[list[int]]:
        """Group prompts of similar length, as many together as memory allows."""
        logits = _BYTES_PER_LOGIT * self.model.config.get_text_config(decoder=True).vocab_size
        groups: list[list[int]] = []
        most = _cache_bytes(self.model.device)
        for index in order:
            columns = len(prompts[index]) + new_tokens  # the longest so far, since prompts are sorted
            needed = (len(groups[-1]) + 1) * copies * (columns * engine.bytes_per_token + logits) if groups else 0
            if not groups or needed > most:
                groups.append([])
            groups[-1].append(index)
        return groups


def fit_prompt(prompt: Sequence[int], max_positions: int, new_tokens: int) -> Sequence[int]:
    """The end of a prompt that leaves room for `new_tokens` in a model of `max_positions`.

    Raises:
        ConfigError: there is no room for even one token.
    """
    room = max_positions - new_tokens
    if room < 1:
        raise ConfigError(
            "max_new_tokens leaves no room for a prompt",
            got=new_tokens,
            expected=f"less than the model's {max_positions} positions",
        )
    return prompt[-room:]


def _cache_bytes(device: torch.device) -> int:
    """How much memory the keys and values of a batch may take."""
    if device.type != "cuda":
        return _CACHE_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(_CACHE_SHARE * (free + reserved))


def _empty(rows: int, length: int, pad_id: int) -> Samples:
    return Samples(
        tokens=torch.full((rows, length), pad_id),
        mask=torch.zeros(rows, length, dtype=torch.bool),
        ended=torch.zeros(rows, dtype=torch.bool),
    )
