"""Attention for the answers' next tokens: over the prompt, whose keys and values its answers share, and their own.

Reading the cache separately for every query is bound by memory and by the overhead of hundreds of tiny products. So the
prompt's part is read once for all its answers, and the answers' own tokens are stored token by token, so that one
multiplication and one sum compute the products of all rows and heads.

Legend: N prompts, M answers to each, B = N * M rows (prompt-major), P prompt columns, T answer tokens so far, H heads,
D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TILE = 32  # tokens whose products are summed at once: few enough for the processor's cache


class AnswerAttention:
    """One layer's key-value cache for a batch, in float32.

    A row's results depend neither on the other rows nor on how many answers share a prompt: a longer prompt in the
    batch only appends zeros to its sums, and a single query, whose product would be summed in a different order, is
    doubled.

    Args:
        keys: (N, H, P, D) of the prompts; zeros where a prompt has no token.
        values: like `keys`.
        copies: M.
        new_tokens: maximum number of tokens in an answer.
    """

    def __init__(self, keys: Tensor, values: Tensor, *, copies: int, new_tokens: int) -> None:
        self._prompt_keys, self._prompt_values = keys, values
        self._copies = copies
        prompts, heads, _, size = keys.shape
        shape = (new_tokens, prompts * copies, heads, size)
        self._keys, self._values = keys.new_empty(shape), values.new_empty(shape)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, token: int, room: Tensor) -> Tensor:
        """Append the answers' token number `token` and let it attend to everything so far; returns (B, H, D).

        Args:
            query: (B, H, D), scaled.
            key: (B, H, D), the token's own.
            value: like `key`.
            bias: (N, 1, 1, P), 0 where the prompt has a token, else minus infinity.
            token: T - 1.
            room: the buffer from `room_for`.
        """
        self._keys[token], self._values[token] = key, value
        prompts, copies, (_, heads, size) = len(bias), self._copies, query.shape
        split = (prompts, copies, heads)
        queries = query.view(*split, size).transpose(1, 2)  # (N, H, M, D)
        asked = _several(queries) @ self._prompt_keys.transpose(2, 3)
        scores = query.new_empty(prompts, heads, copies, token + 1 + bias.shape[-1])  # (N, H, M, T + P)
        own = scores[..., : token + 1].permute(3, 0, 2, 1)  # (T, N, M, H), laid out like the cache
        _own_scores(query.view(*split, size), self._keys[: token + 1].view(-1, *split, size), own, room)
        torch.add(asked[:, :, :copies], bias, out=scores[..., token + 1 :])
        shares = scores.softmax(dim=-1)
        read = _several(shares[..., token + 1 :]) @ self._prompt_values
        own = shares[..., : token + 1].permute(3, 0, 2, 1)
        found = _own_values(own, self._values[: token + 1].view(-1, *split, size), room)
        return found.add_(read[:, :, :copies].transpose(1, 2)).flatten(0, 1)

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (B',) long, each with its own copy of the prompt from now on."""
        self._prompt_keys = self._prompt_keys.index_select(0, rows // self._copies)
        self._prompt_values = self._prompt_values.index_select(0, rows // self._copies)
        self._keys, self._values = self._keys.index_select(1, rows), self._values.index_select(1, rows)
        self._copies = 1


def room_for(query: Tensor) -> Tensor:
    """A buffer for the products of queries (B, H, D): allocating it every time costs more than the products."""
    return query.new_empty(_TILE, *query.shape)


def _own_scores(query: Tensor, keys: Tensor, scores: Tensor, room: Tensor) -> None:
    """Write the scores (T, N, M, H) of queries (N, M, H, D) against the keys (T, N, M, H, D) of their own rows."""
    room = room.view(-1, *query.shape)
    for start in range(0, len(keys), _TILE):
        part = keys[start : start + _TILE]
        products = torch.mul(part, query, out=room[: len(part)])
        torch.sum(products, dim=-1, out=scores[start : start + _TILE])


def _own_values(shares: Tensor, values: Tensor, room: Tensor) -> Tensor:
    """The sum (N, M, H, D) of values (T, N, M, H, D) weighted by their shares (T, N, M, H)."""
    room = room.view(-1, *values.shape[1:])
    sums = []
    for start in range(0, len(values), _TILE):
        part = values[start : start + _TILE]
        products = torch.mul(part, shares[start : start + _TILE, ..., None], out=room[: len(part)])
        sums.append(products.sum(dim=0))
    return sum(sums[1:], start=sums[0])


def _several(queries: Tensor) -> Tensor:
    """Queries (N, H, M, W), a single one repeated: an expanded view would make the product many times slower."""
    return queries.repeat(1, 1, 2, 1) if queries.shape[2] == 1 else queries
