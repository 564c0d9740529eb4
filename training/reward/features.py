"""Preference pairs prepared for the reward model: tokens in, the frozen base's activations out, in one pass.

Legend: N pairs, A distinct answers, B pairs of one batch, L depths, P pools, T tokens, H hidden size, S sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from training.data import Preference
from training.errors import DivergedError
from training.fast import Precision, autocast, compute_dtype, length_groups
from training.models import Pool, RewardModel, Site, TextCodec, pad_answers, pool_answer, sequences_of
from training.reward.activations import activation_room

_TOKENS_PER_PASS = 4096
_POOLS: tuple[Pool, ...] = get_args(Pool)

Answer = tuple[tuple[int, ...], tuple[int, ...]]
"""A prompt and an answer to it, as token ids."""


@dataclass(frozen=True, slots=True)
class PairFeatures:
    """Pairs with the frozen base's activations of both sequences.

    places: (N, 2) long, which of the distinct answers were chosen and rejected.
    pooled: (A, L * P, H) float32 on the CPU, of each answer at each depth by each pool.
    depths: L.
    trunk: A tensors (tokens, H) below the model's own layers, in memory or in a memory-mapped file; none if not asked.
    p_chosen: (N,) float32, share of votes for `chosen`.
    votes: (N,) float32, how many people judged.
    answer_tokens: (N, 2) long, lengths of the chosen and the rejected answer, end of text included.
    scale: (L * P, H) float64, root mean square of each feature's differences.
    precision: number format of the layers above.
    """

    places: Tensor
    pooled: Tensor
    depths: tuple[int, ...]
    trunk: Sequence[Tensor]
    p_chosen: Tensor
    votes: Tensor
    answer_tokens: Tensor
    scale: Tensor
    precision: Precision = "auto"

    def __len__(self) -> int:
        return len(self.places)

    def differences(self, sites: Sequence[Site], rows: Tensor) -> Tensor:
        """Differences chosen - rejected (n, S * H) float64 at sites, scaled so that a typical pair has length 1."""
        return torch.cat([self._difference(site, rows) for site in sites], dim=1) * self._unit(sites)

    def unscaled(self, sites: Sequence[Site], weights: Tensor) -> Tensor:
        """Weights (S * H,) of scaled differences as weights of the features themselves."""
        return weights * self._unit(sites)

    def center(self, sites: Sequence[Site]) -> Tensor:
        """The answers' mean features (S * H,) float32."""
        return torch.cat([self.pooled[:, self._place(site)].mean(dim=0) for site in sites])

    def top_scores(self, model: RewardModel, rows: Sequence[int]) -> Tensor:
        """Scores (2, B) of the model's own layers."""
        chosen = [int(place) for side in (0, 1) for place in self.places[rows, side]]
        activations = [self.trunk[place] for place in chosen]
        groups = length_groups([len(item) for item in activations])
        with autocast(model.base.device, self.precision, model.base.hidden_size):
            parts = [_top_scores(model, [activations[index] for index in group]) for group in groups]
        back = torch.tensor([index for group in groups for index in group]).argsort().to(parts[0].device)
        return torch.cat(parts)[back].view(2, len(rows))

    def top_differences(self, model: RewardModel, rows: Sequence[int], batch_pairs: int = 64) -> Tensor:
        """Score differences (n,) of the model's own layers, without gradient, on the CPU."""
        found = [torch.zeros(0)]
        with torch.no_grad():
            for start in range(0, len(rows), batch_pairs):
                chosen, rejected = self.top_scores(model, rows[start : start + batch_pairs])
                found.append((chosen - rejected).float().cpu())
        return torch.cat(found)

    def _difference(self, site: Site, rows: Tensor) -> Tensor:
        place = self._place(site)
        chosen, rejected = (self.pooled[self.places[rows, side], place].double() for side in (0, 1))
        return chosen - rejected

    def _unit(self, sites: Sequence[Site]) -> Tensor:
        scale = torch.cat([self.scale[self._place(site)] for site in sites])
        return torch.where(scale > 0, 1 / (scale.clamp(min=1e-30) * len(scale) ** 0.5), 0.0)

    def _place(self, site: Site) -> int:
        return self.depths.index(site.depth) * len(_POOLS) + _POOLS.index(site.pool)


def pair_features(
    model: RewardModel,
    codec: TextCodec,
    preferences: Sequence[Preference],
    depths: Sequence[int],
    *,
    keep_trunk: bool,
    precision: Precision = "auto",
    memory_mb: int = 2048,
    folder: Path | None = None,
) -> PairFeatures:
    """Run the frozen base once over every distinct answer.

    Args:
        model: whose base is run, and whose own layers the trunk lies below.
        codec: the base's tokenizer and template.
        preferences: all pairs.
        depths: where features are pooled.
        keep_trunk: whether the activations below the model's own layers are kept, which training them needs.
        precision: number format of the computation.
        memory_mb: activations larger than this many MiB go into a memory-mapped file.
        folder: where to put that file; None keeps everything in memory.

    Raises:
        DivergedError: an activation is NaN or infinite.
    """
    prompts = [preference.prompt for preference in preferences]
    limit = model.base.max_positions
    sides = [
        [(tuple(p), tuple(a)) for p, a in sequences_of(codec, prompts, answers, limit)]
        for answers in ([pair.chosen for pair in preferences], [pair.rejected for pair in preferences])
    ]
    distinct = sorted({*sides[0], *sides[1]}, key=lambda item: (len(item[0]) + len(item[1]), item))
    number = {item: index for index, item in enumerate(distinct)}
    pools = len(depths) * len(_POOLS)
    room = activation_room(
        len(distinct) * pools, model.base.hidden_size, torch.float32, memory_mb=memory_mb, folder=folder
    )
    pooled = room.view(len(distinct), pools, model.base.hidden_size)
    trunk = _trunk_room(model, distinct, precision, memory_mb, folder) if keep_trunk else []
    with autocast(model.base.device, precision, model.base.hidden_size):
        _run(model, distinct, codec.pad_id, tuple(depths), pooled, trunk)
    if not bool(torch.isfinite(pooled).all()):
        raise DivergedError(
            "the base model's activations are NaN or infinite",
            got="them in at least one answer",
            remedy="Check the base model's weights, or set reward.precision to float32.",
        )
    places = torch.tensor([[number[item] for item in pair] for pair in zip(*sides, strict=True)]).view(-1, 2)
    return PairFeatures(
        places=places,
        pooled=pooled,
        depths=tuple(depths),
        trunk=trunk,
        p_chosen=torch.tensor([pair.p_chosen for pair in preferences], dtype=torch.float32),
        votes=torch.tensor([max(1, pair.votes) for pair in preferences], dtype=torch.float32),
        answer_tokens=torch.tensor([[len(item[1]) for item in pair] for pair in zip(*sides, strict=True)]).view(-1, 2),
        scale=_scale_of(pooled, places),
        precision=precision,
    )


def _scale_of(pooled: Tensor, places: Tensor) -> Tensor:
    """Root mean square (L * P, H) float64 of the features' differences.

    A dimension that hardly varies isn't blown up to the size of the others.
    """
    found = []
    for place in range(pooled.shape[1]):
        difference = pooled[places[:, 0], place] - pooled[places[:, 1], place]
        found.append(difference.double().square().mean(dim=0).sqrt())
    scale = torch.stack(found)
    return torch.maximum(scale, 0.01 * scale.median(dim=1, keepdim=True).values)


def _top_scores(model: RewardModel, activations: Sequence[Tensor]) -> Tensor:
    """Scores (B,) of sequences from their trunk activations (tokens, H), padded to the longest."""
    device = model.base.device
    lengths = torch.tensor([len(item) for item in activations])
    trunk = pad_sequence(list(activations), batch_first=True).to(device).float()
    mask = (torch.arange(trunk.shape[1]) < lengths[:, None]).to(device)
    return model.top_scores(trunk, model.base.context(mask), (lengths - 1).to(device)).mean(dim=-1)


def _trunk_room(
    model: RewardModel, distinct: Sequence[Answer], precision: Precision, memory_mb: int, folder: Path | None
) -> list[Tensor]:
    """Uninitialised activations (tokens, H) for every answer."""
    lengths = [len(prompt) + len(answer) for prompt, answer in distinct]
    dtype = compute_dtype(model.base.device, precision, model.base.hidden_size)
    room = activation_room(sum(lengths), model.base.hidden_size, dtype, memory_mb=memory_mb, folder=folder)
    return list(torch.split(room, lengths))


def _run(
    model: RewardModel,
    distinct: Sequence[Answer],
    pad_id: int,
    depths: tuple[int, ...],
    pooled: Tensor,
    trunk: Sequence[Tensor],
) -> None:
    """Fill `pooled` and `trunk`; the answers are sorted by length, so they need less padding."""
    device, start = model.base.device, 0
    wanted = {*depths, model.depth} if trunk else set(depths)
    while start < len(distinct):
        stop, length = start + 1, sum(map(len, distinct[start]))
        while stop < len(distinct) and (stop - start + 1) * sum(map(len, distinct[stop])) <= _TOKENS_PER_PASS:
            stop += 1
            length = sum(map(len, distinct[stop - 1]))
        ids, mask, starts = pad_answers(distinct[start:stop], pad_id)
        ids, mask, starts = ids.to(device), mask.to(device), starts.to(device)
        hidden = model.base.activations(ids, model.base.context(mask), wanted)
        answer = mask & (torch.arange(length, device=device) > starts[:, None])
        for index, depth in enumerate(depths):
            found = pool_answer(hidden[depth], answer, mask.sum(dim=1) - 1)
            for offset, pool in enumerate(_POOLS):
                pooled[start:stop, index * len(_POOLS) + offset] = found[pool].cpu()
        if trunk:
            for place, row in zip(range(start, stop), hidden[model.depth], strict=True):
                trunk[place].copy_(row[: len(trunk[place])])
        start = stop
