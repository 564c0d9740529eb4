"""Which token comes next: temperature, top-k and top-p for a whole batch at once, each row with its own random number.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.config import SamplingConfig
from training.objectives import token_logprobs


def uniforms(seeds: Sequence[int], length: int) -> Tensor:
    """Uniform numbers (B, length) float64 in [0, 1), each row from its own seed, whatever rows stand beside it."""
    rows = [
        torch.rand(length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds
    ]
    return torch.stack(rows) if rows else torch.zeros(0, length, dtype=torch.float64)


def choose_tokens(logits: Tensor, uniform: Tensor, config: SamplingConfig, never: int | None) -> tuple[Tensor, Tensor]:
    """Draw a token for each row: the uniform number picks it from the cumulative distribution.

    Top-k counts first, then top-p within what top-k left: the most likely tokens until their sum reaches `top_p`.
    `top_k` 1 is greedy decoding.

    Args:
        logits: (B, V) float32.
        uniform: (B,) float64 in [0, 1).
        config: how to sample.
        never: a token that is never drawn, None where there is none.

    Returns:
        tokens (B,) long, and their log-probs (B,) float32 under the whole distribution at this temperature.
    """
    allowed = logits
    if never is not None:
        allowed = logits.clone()
        allowed[:, never] = -torch.inf
    greedy = config.top_k == 1
    tokens = allowed.argmax(dim=-1) if greedy else _draw(allowed / config.temperature, uniform, config)
    return tokens, token_logprobs(logits, tokens, config.temperature)


def _draw(scaled: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    vocabulary = scaled.shape[-1]
    by_rank: Tensor | None = None
    if 0 < config.top_k < vocabulary:
        scaled, by_rank = scaled.topk(config.top_k, dim=-1)
    elif config.top_p < 1.0:
        scaled, by_rank = scaled.sort(dim=-1, descending=True)
    # float64, for a sum over 50,000 tokens in float32 loses the rare ones.
    probabilities = scaled.double().softmax(dim=-1)
    cumulated = probabilities.cumsum(dim=-1)
    if config.top_p < 1.0:
        probabilities = probabilities * (cumulated - probabilities < config.top_p)
        cumulated = probabilities.cumsum(dim=-1)
    target = uniform.to(cumulated.device)[:, None] * cumulated[:, -1:]
    place = torch.searchsorted(cumulated, target, right=True).clamp(max=scaled.shape[-1] - 1)
    place = torch.minimum(place, _last_possible(probabilities))
    return (place if by_rank is None else by_rank.gather(-1, place)).squeeze(-1)


def _last_possible(probabilities: Tensor) -> Tensor:
    """The place (B, 1) of the last token that can be drawn at all; rounding must not lead past it."""
    width = probabilities.shape[-1]
    return width - 1 - (probabilities > 0).flip(-1).int().argmax(dim=-1, keepdim=True)
