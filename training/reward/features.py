"""Preference pairs prepared for the reward model: tokens in, frozen activations out, once for all epochs.

Legend: N pairs, B pairs of one batch, T tokens of its longest sequence, H hidden size, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from training.data import Preference, Split, split_of
from training.fast import Precision, autocast, compute_dtype
from training.models import RewardModel, TextCodec, pad_right, sequences_of
from training.reward.activations import activation_room
from training.reward.length_groups import length_groups

_TOKENS_PER_PASS = 4096


@dataclass(frozen=True, slots=True)
class PairFeatures:
    """Pairs with the frozen trunk's activations of both sequences.

    chosen, rejected: N tensors (tokens, H) on the CPU, in memory or in a memory-mapped file.
    p_chosen: (N,) float32, share of votes for `chosen`.
    answer_tokens: (N, 2) long, lengths of the chosen and the rejected answer, end of text included.
    precision: number format of the layers above.
    """

    chosen: Sequence[Tensor]
    rejected: Sequence[Tensor]
    p_chosen: Tensor
    answer_tokens: Tensor
    precision: Precision = "auto"

    def __len__(self) -> int:
        return len(self.chosen)

    def head_scores(self, model: RewardModel, rows: Sequence[int]) -> Tensor:
        """Scores (2, B, K) of every head."""
        activations = [self.chosen[row] for row in rows] + [self.rejected[row] for row in rows]
        groups = length_groups([len(item) for item in activations])
        with autocast(model.base.device, self.precision, model.base.hidden_size):
            parts = [_scores(model, [activations[index] for index in group]) for group in groups]
        back = torch.tensor([index for group in groups for index in group]).argsort().to(parts[0].device)
        return torch.cat(parts)[back].view(2, len(rows), model.heads)

    def all_scores(self, model: RewardModel, batch_pairs: int = 64) -> Tensor:
        """Scores (2, N) of every pair, averaged over the heads, without gradient, on the CPU."""
        return self.all_head_scores(model, batch_pairs).mean(dim=-1)

    def all_head_scores(self, model: RewardModel, batch_pairs: int = 64) -> Tensor:
        """Scores (2, N, K) of every pair by every head, without gradient, on the CPU."""
        if not len(self):
            return torch.zeros(2, 0, model.heads)
        with torch.no_grad():
            starts = range(0, len(self), batch_pairs)
            parts = [self.head_scores(model, range(start, min(start + batch_pairs, len(self)))) for start in starts]
        return torch.cat(parts, dim=1).float().cpu()


def features_by_split(
    model: RewardModel,
    codec: TextCodec,
    preferences: Sequence[Preference],
    *,
    precision: Precision = "auto",
    memory_mb: int = 2048,
    folder: Path | None = None,
) -> dict[Split, PairFeatures]:
    """Run the frozen trunk once over every distinct sequence and group the pairs by their prompt's split.

    Args:
        model: the model whose trunk is run.
        codec: the base's tokenizer and template.
        preferences: all pairs.
        precision: number format of the computation.
        memory_mb: activations larger than this many MiB go into a memory-mapped file.
        folder: where to put that file; None keeps everything in memory.
    """
    prompts = [preference.prompt for preference in preferences]
    limit = model.base.max_positions
    chosen = sequences_of(codec, prompts, [preference.chosen for preference in preferences], limit)
    rejected = sequences_of(codec, prompts, [preference.rejected for preference in preferences], limit)
    distinct = sorted({tuple(p + a) for p, a in chosen + rejected}, key=lambda ids: (len(ids), ids))
    base = model.base
    room = activation_room(
        sum(len(ids) for ids in distinct),
        base.hidden_size,
        compute_dtype(base.device, precision, base.hidden_size),
        memory_mb=memory_mb,
        folder=folder,
    )
    with autocast(base.device, precision, base.hidden_size):
        activations = _trunk_of(model, distinct, codec.pad_id, room)
    splits = [split_of(prompt) for prompt in prompts]

    def features(split: Split) -> PairFeatures:
        rows = [row for row, found in enumerate(splits) if found is split]
        return PairFeatures(
            chosen=[activations[tuple(chosen[row][0] + chosen[row][1])] for row in rows],
            rejected=[activations[tuple(rejected[row][0] + rejected[row][1])] for row in rows],
            p_chosen=torch.tensor([preferences[row].p_chosen for row in rows], dtype=torch.float32),
            answer_tokens=torch.tensor([(len(chosen[row][1]), len(rejected[row][1])) for row in rows]).view(-1, 2),
            precision=precision,
        )

    return {split: features(split) for split in Split}


def _scores(model: RewardModel, activations: Sequence[Tensor]) -> Tensor:
    """Scores (B, K) of sequences from their trunk activations (tokens, H), padded to the longest."""
    device = model.base.device
    lengths = torch.tensor([len(item) for item in activations])
    trunk = pad_sequence(list(activations), batch_first=True).to(device).float()
    mask = (torch.arange(trunk.shape[1]) < lengths[:, None]).to(device)
    return model.top_scores(trunk, model.base.context(mask), (lengths - 1).to(device))


def _trunk_of(
    model: RewardModel, sequences: Sequence[tuple[int, ...]], pad_id: int, room: Tensor
) -> dict[tuple[int, ...], Tensor]:
    """Activations (tokens, H) of each sequence, written into `room`; sorted by length, sequences need less padding."""
    found: dict[tuple[int, ...], Tensor] = {}
    start = filled = 0
    while start < len(sequences):
        stop = start + 1
        while stop < len(sequences) and (stop - start + 1) * len(sequences[stop]) <= _TOKENS_PER_PASS:
            stop += 1
        batch = sequences[start:stop]
        ids, mask = pad_right([list(item) for item in batch], pad_id)
        ids, mask = ids.to(model.base.device), mask.to(model.base.device)
        hidden = model.trunk(ids, model.base.context(mask))
        for item, row in zip(batch, hidden, strict=True):
            found[item] = room[filled : filled + len(item)]
            found[item].copy_(row[: len(item)])
            filled += len(item)
        start = stop
    return found
