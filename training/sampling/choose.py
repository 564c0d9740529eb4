"""Choosing the next token: temperature, top-k and top-p for a whole batch, each row with its own random number.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import SamplingConfig

_BLOCK = 64
_SMALL_VOCABULARY = 1024  # below this size a single cumulative sum over all tokens is as fast


def uniforms(seeds: Sequence[int], length: int) -> Tensor:
    """Uniform numbers (B, length) float64 in [0, 1), each row from its own seed, independent of the other rows."""
    rows = [
        torch.rand(length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds
    ]
    return torch.stack(rows) if rows else torch.zeros(0, length, dtype=torch.float64)


def choose_tokens(logits: Tensor, uniform: Tensor, config: SamplingConfig, never: int | None) -> Tensor:
    """Draw a token for each row: the uniform number picks it from the cumulative distribution.

    Top-k is applied first, then top-p to what remains: the most likely tokens until their sum reaches `top_p`.
    `top_k` 1 is greedy decoding.

    Args:
        logits: (B, V) float32.
        uniform: (B,) float64 in [0, 1).
        config: sampling settings.
        never: a token that is never drawn, or None.

    Returns:
        tokens (B,) long.
    """
    if never is not None:
        logits = logits.clone()
        logits[:, never] = -torch.inf
    if config.top_k == 1:
        return logits.argmax(dim=-1)
    scaled = logits if config.temperature == 1.0 else logits / config.temperature
    return _draw(scaled, uniform.to(logits.device), config)


def _draw(logits: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens (B,) from logits (B, V) at the sampling temperature."""
    vocabulary = logits.shape[-1]
    if 0 < config.top_k < vocabulary:
        kept, by_rank = _top(logits, config.top_k)
    elif config.top_p < 1.0:
        kept, by_rank = logits.sort(dim=-1, descending=True)
    else:
        return _draw_from_all(logits.softmax(dim=-1), uniform)
    # float64, because a float32 sum over 50,000 tokens loses the rare ones.
    probabilities = kept.double().softmax(dim=-1)
    if config.top_p < 1.0:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities * (before < config.top_p)
    place, _ = _pick(probabilities, uniform)
    return by_rank.gather(-1, place[:, None]).squeeze(-1)


def _draw_from_all(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Tokens (B,) from float32 probabilities (B, V): first pick a block, then a token within it.

    Sums over blocks are cheap, and only the chosen block needs a cumulative sum in float64.
    """
    if probabilities.shape[-1] < _SMALL_VOCABULARY:
        return _pick(probabilities.double(), uniform)[0]
    blocks = F.pad(probabilities, (0, -probabilities.shape[-1] % _BLOCK)).view(len(probabilities), -1, _BLOCK)
    which, rest = _pick(blocks.sum(dim=-1).double(), uniform)
    within = blocks[torch.arange(len(blocks), device=blocks.device), which].double()
    return which * _BLOCK + _pick(within, rest)[0]


def _pick(probabilities: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B,) that a uniform number (B,) hits in float64 probabilities (B, W) of any sum.

    Also returns where within that index it falls, rescaled to [0, 1]. Never picks a zero probability by rounding.
    """
    cumulated = probabilities.cumsum(dim=-1)
    target = uniform[:, None] * cumulated[:, -1:]
    place = torch.searchsorted(cumulated, target, right=True).clamp(max=probabilities.shape[-1] - 1)
    place = torch.minimum(place, _last_possible(probabilities))
    hit = probabilities.gather(-1, place)
    rest = (target - (cumulated.gather(-1, place) - hit)) / hit
    return place.squeeze(-1), rest.squeeze(-1).clamp(0.0, 1.0)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest `count` values of each row (B, V) and their indices, in descending order.

    They can only be in the blocks with the largest maxima, and taking maxima is far cheaper than sorting 50,000 values.
    """
    blocks = values.shape[-1] // _BLOCK
    if blocks < 2 * count:
        found = values.topk(count, dim=-1)
        return found.values, found.indices
    body = values[:, : blocks * _BLOCK].view(len(values), blocks, _BLOCK)
    tail = values[:, blocks * _BLOCK :]
    best = body.amax(dim=-1).topk(count, dim=-1).indices[:, :, None]
    offsets = torch.arange(_BLOCK, device=values.device)
    tail_places = torch.arange(blocks * _BLOCK, values.shape[-1], device=values.device).expand(len(values), -1)
    places = torch.cat([(best * _BLOCK + offsets).flatten(1), tail_places], dim=-1)
    candidates = torch.cat([body.gather(1, best.expand(-1, -1, _BLOCK)).flatten(1), tail], dim=-1)
    found = candidates.topk(count, dim=-1)
    return found.values, places.gather(-1, found.indices)


def _last_possible(probabilities: Tensor) -> Tensor:
    """The index (B, 1) of the last token with a nonzero probability, which rounding must not exceed."""
    width = probabilities.shape[-1]
    return width - 1 - (probabilities > 0).flip(-1).int().argmax(dim=-1, keepdim=True)
