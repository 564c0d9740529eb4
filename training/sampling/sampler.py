"""Sampling answers: for rollouts, for evaluation and for the pairs that people judge.

A sequence depends on its prompt, its seed and the settings, never on the rest of the batch: bit for bit for GPT-2 on a
CPU with packed weights. Elsewhere the rounding of matrix products depends on the batch, which changes one answer in
several hundred, where two tokens are almost tied.

Legend: N prompts, B answers, T tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from training.config import SamplingConfig
from training.errors import ConfigError, DataError
from training.fast import GPT2Weights, SamplingPrecision
from training.models import pad_left
from training.sampling.choose import choose_tokens, uniforms
from training.sampling.decoders import decoder_for, weights_for

_CACHE_BYTES = 2**30
_KEPT_WHILE = 0.75  # compacting the cache pays once a quarter of its rows are done

OnStep = Callable[[int, int], None]
"""Called after every token with the number of finished answers and the number of answers in all."""


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

    def answers(self) -> list[list[int]]:
        """Each answer's real tokens."""
        lengths = self.mask.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def rows(self, index: Tensor) -> Self:
        """The answers at `index` (M,) long."""
        return type(self)(self.tokens[index], self.mask[index], self.ended[index])


class Sampler:
    """Samples from a model with its current weights, so that one sampler serves a whole training run.

    Args:
        model: a transformers PreTrainedModel.
        eos_id: the token that ends an answer.
        pad_id: the padding token; it is never sampled unless it is the end token.
        precision: number format of matrix products; `auto` is bfloat16 where that is faster.

    Attributes:
        truncated_prompts: how many prompts have been cut so far to leave room for the answer.
    """

    def __init__(self, model: Any, *, eos_id: int, pad_id: int, precision: SamplingPrecision = "auto") -> None:
        self.model = model
        self.precision: SamplingPrecision = precision
        self._weights: GPT2Weights | None = None
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.truncated_prompts = 0

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
            on_step: called after every token.

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
        self._take_weights()
        done = 0
        for group in self._groups(order, fitted, config.max_new_tokens, answers_per_prompt):
            places = torch.tensor([i * answers_per_prompt + k for i in group for k in range(answers_per_prompt)])

            def report(finished: int, before: int = done) -> None:
                if on_step:
                    on_step(before + finished, rows)

            part = self._decode([fitted[i] for i in group], draws[places], config, answers_per_prompt, report)
            for whole, piece in zip((found.tokens, found.mask, found.ended), part, strict=True):
                whole[places] = piece
            done += len(places)
        width = int(found.mask.sum(dim=1).max()) if rows else 0
        return Samples(found.tokens[:, :width], found.mask[:, :width], found.ended)

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        draws: Tensor,
        config: SamplingConfig,
        copies: int,
        report: Callable[[int], None],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, mask and `ended` flags of one batch."""
        device = self.model.device
        ids, mask = pad_left(prompts, self.pad_id)
        decoder = decoder_for(
            self.model, self._weights, ids.to(device), mask.to(device), copies=copies, new_tokens=config.max_new_tokens
        )
        out = _empty(len(draws), config.max_new_tokens, self.pad_id)
        never = None if self.pad_id == self.eos_id else self.pad_id
        rows = torch.arange(len(draws))  # the answer that each of the decoder's rows belongs to
        for step in range(config.max_new_tokens):
            chosen = choose_tokens(decoder.logits, draws[rows, step], config, never)
            tokens = chosen.cpu()
            running = ~out.ended[rows]
            out.tokens[rows, step] = torch.where(running, tokens, self.pad_id)
            out.mask[rows, step] = running
            out.ended[rows] |= tokens == self.eos_id
            running = ~out.ended[rows]
            alive = int(running.sum())
            report(len(draws) - alive)
            if alive == 0 or step == config.max_new_tokens - 1:
                break
            if alive <= _KEPT_WHILE * len(rows):
                kept = running.nonzero().squeeze(1)
                rows, chosen = rows[kept], chosen[kept.to(device)]
                decoder.keep(kept.to(device))
            decoder.advance(chosen)
        return out.tokens, out.mask, out.ended

    def _take_weights(self) -> None:
        """Bring the decoder's weights up to date with the model's, on the model's current device."""
        if self._weights is not None and self._weights.fits(self.model):
            self._weights.refresh()
        else:
            self._weights = weights_for(self.model, self.precision)

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
        self, order: Sequence[int], prompts: Sequence[Sequence[int]], new_tokens: int, copies: int
    ) -> list[list[int]]:
        """Group prompts of similar length, as many together as the cache limit allows."""
        config = self.model.config
        bytes_per_column = 2 * 4 * config.num_hidden_layers * config.hidden_size * copies
        groups: list[list[int]] = []
        for index in order:
            columns = len(prompts[index]) + new_tokens  # the longest so far, since prompts are sorted
            if not groups or (len(groups[-1]) + 1) * columns * bytes_per_column > _CACHE_BYTES:
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


def _empty(rows: int, length: int, pad_id: int) -> Samples:
    return Samples(
        tokens=torch.full((rows, length), pad_id),
        mask=torch.zeros(rows, length, dtype=torch.bool),
        ended=torch.zeros(rows, dtype=torch.bool),
    )
