"""A hand-written GPT-2 decoder: a dozen small operations per layer and step, several times fewer than its `forward`.

Legend: N prompts, P tokens of the longest, L real tokens of all, B answers (rows), C hidden size, D head size,
V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.fast.answer_attention import AnswerAttention, room_for
from training.fast.gpt2_weights import GPT2Block, GPT2Weights

_COLUMNS = 16  # float32 numbers per AVX-512 register, so that no sum has a remainder that depends on the batch
_PROMPT_COLUMNS = 32  # queries per block of PyTorch's fused attention, for the same reason


class GPT2Decoder:
    """One batch of answers; see `training.sampling.decoders.Decoder`.

    Args:
        weights: the model's.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers per prompt.
        new_tokens: maximum number of tokens in an answer.
    """

    def __init__(self, weights: GPT2Weights, ids: Tensor, mask: Tensor, *, copies: int, new_tokens: int) -> None:
        self._weights = weights
        self._layers: list[AnswerAttention] = []
        self._token = 0
        lengths = mask.sum(dim=1)
        places = torch.arange(_rounded_up(ids.shape[1], _COLUMNS), device=ids.device)
        self._bias = torch.where(places < lengths[:, None], 0.0, -torch.inf)[:, None, None]
        self._positions = lengths.repeat_interleave(copies)
        self._copies = copies
        last = self._read(ids, mask, copies, new_tokens)
        self.logits = self._logits(last).repeat_interleave(copies, dim=0)
        self._room = room_for(self._heads(last.repeat_interleave(copies, dim=0)))

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        weights = self._weights
        hidden = weights.token_embedding[tokens] + weights.position_embedding[self._positions]
        for block, layer in zip(weights.blocks, self._layers, strict=True):
            query, key, value = (self._heads(part) for part in self._project(block, hidden).float().chunk(3, dim=-1))
            query = query * block.scaling
            attended = layer.attend(query, key, value, self._bias, token=self._token, room=self._room)
            hidden = _after_attention(block, hidden, attended.flatten(1).to(weights.dtype))
        self._positions = self._positions + 1
        self._token += 1
        self.logits = self._logits(hidden)

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""
        for layer in self._layers:
            layer.keep(rows)
        self._bias, self._copies = self._bias[rows // self._copies], 1
        self._positions, self.logits = self._positions[rows], self.logits[rows]
        self._room = self._room.new_empty(len(self._room), len(rows), *self._room.shape[2:])

    def _read(self, ids: Tensor, mask: Tensor, copies: int, new_tokens: int) -> Tensor:
        """Read prompts (N, P) into the caches; returns each one's last state (N, C) above the blocks.

        Only attention sees the prompts padded; everything else is computed for their real tokens alone.
        """
        weights, lengths = self._weights, mask.sum(dim=1)
        width = _rounded_up(ids.shape[1], _PROMPT_COLUMNS)
        columns = self._bias.shape[-1]
        positions = torch.arange(width, device=ids.device).expand(len(ids), -1)
        real = positions < lengths[:, None]
        places = real.flatten().nonzero().squeeze(1)  # (L,), of each token among the padded ones
        hidden = weights.token_embedding[ids[mask]] + weights.position_embedding[positions[real]]
        for block in weights.blocks:
            projected = self._project(block, hidden)
            padded = projected.new_zeros(real.numel(), projected.shape[-1]).index_copy_(0, places, projected)
            parts = self._heads(padded.view(*real.shape, 3, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, width, D)
            attended = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True, scale=block.scaling)
            # A copy, because views would keep the whole projection in memory.
            kept = parts[1:, :, :, :columns].to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            self._layers.append(AnswerAttention(kept[0], kept[1], copies=copies, new_tokens=new_tokens))
            if block is weights.blocks[-1]:  # whose last states are all that is needed
                ends = lengths.cumsum(dim=0) - 1
                hidden, places = hidden[ends], places[ends]
            hidden = _after_attention(block, hidden, attended.transpose(1, 2).flatten(2).flatten(0, 1)[places])
        return hidden

    def _heads(self, states: Tensor) -> Tensor:
        """States (..., C) to (..., heads, D)."""
        return states.view(*states.shape[:-1], self._weights.heads, -1)

    def _project(self, block: GPT2Block, hidden: Tensor) -> Tensor:
        """Query, key and value (..., 3 C) of hidden states (..., C)."""
        return block.query_key_value(block.attention_norm(hidden).to(self._weights.dtype))

    def _logits(self, hidden: Tensor) -> Tensor:
        """States above the blocks (..., C) to logits (..., V) float32."""
        return self._weights.head(self._weights.final_norm(hidden).to(self._weights.dtype)).float()


def _after_attention(block: GPT2Block, hidden: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block: the attention's output projection, then the feed-forward part."""
    hidden = hidden + block.attention_output(attended)
    normalised = block.feed_forward_norm(hidden).to(attended.dtype)
    if block.activation is None:
        inner = block.feed_forward_in(normalised, gelu=True)
    else:
        inner = block.activation(block.feed_forward_in(normalised))
    return hidden + block.feed_forward_out(inner)


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
