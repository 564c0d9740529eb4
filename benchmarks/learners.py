"""What learns from the same pairs: ours, a plain probe, the top layers alone from zero, and TRL's RewardTrainer."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.learned import as_read, run_trl
from benchmarks.turns import clock
from training.config import RewardConfig
from training.data import Preference
from training.models import RewardModel, Site, TextCodec
from training.reward import (
    PairFeatures,
    RewardRun,
    candidate_sites,
    fit_ensemble,
    fit_probes,
    folds_of,
    pair_features,
    probe_depths,
    train_epoch,
    train_reward,
    why_not_tune,
)

LEARNERS = ("ours", "probe", "tuning", "trl")


@dataclass(frozen=True, slots=True)
class Row:
    """A base model with pairs, and their features.

    model: its folder.
    seconds_per_pair: what one pass of the base took for each pair.
    """

    name: str
    model: str
    base: Any
    codec: TextCodec
    pairs: list[Preference]
    features: PairFeatures
    seconds_per_pair: float
    config: RewardConfig


def row_of(name: str, model: str, base: Any, codec: TextCodec, pairs: list[Preference], config: RewardConfig) -> Row:
    """Compute the features of all pairs, once for every learner."""
    reader = RewardModel.on_base(base, config.frozen_share)
    depths = sorted({*probe_depths(reader.base.n_layers, config.probe_depths), reader.base.n_layers // 2})
    start = clock()
    features = pair_features(reader, codec, pairs, depths, keep_trunk=True)
    return Row(name, model, base, codec, pairs, features, (clock() - start) / len(pairs), config)


def learn(row: Row, learner: str, rows: Tensor, held_out: Tensor, seed: int) -> tuple[float, float]:
    """Accuracy on the pairs `held_out` after learning from those at `rows`, and seconds."""
    if learner == "trl":
        return _trl(row, rows, held_out, seed)
    features, start = row.features, clock()
    used = replace(features, places=features.places[rows], p_chosen=features.p_chosen[rows], votes=features.votes[rows])
    if learner == "ours":
        scores = _ours(row, rows, held_out, seed)
    elif learner == "probe":
        sites = _middle(row)
        x = features.differences(sites, rows)
        deviation = torch.tensor([x.shape[1] ** 0.5])  # the penalty of scikit-learn's default on standardised features
        weights = fit_probes(x, used.p_chosen, torch.ones(len(rows), 1), deviation)
        scores = (features.differences(sites, held_out) @ weights)[:, 0]
    else:
        scores = _tuned_alone(row, rows, held_out, seed)
    seconds = clock() - start + row.seconds_per_pair * len(rows)
    untied = features.p_chosen[held_out] != 0.5
    return float((scores[untied] > 0).double().mean()), seconds


def _ours(row: Row, rows: Tensor, held_out: Tensor, seed: int) -> Tensor:
    """The whole of reward training where the layers above are tried, else its probes from the features at hand."""
    pairs, config = [row.pairs[index] for index in rows.tolist()], row.config.model_copy(update={"seed": seed})
    reader = RewardModel.on_base(row.base, config.frozen_share)
    if why_not_tune(reader, len(pairs), config) is None:
        with tempfile.TemporaryDirectory() as out:
            train_reward(row.base, row.codec, pairs, config, Path(out))
            model = RewardModel.load(Path(out), row.base)
        asked = [row.pairs[index] for index in held_out.tolist()]
        prompts = [pair.prompt for pair in asked]
        chosen = model.score_texts(row.codec, prompts, [pair.chosen for pair in asked])
        return chosen - model.score_texts(row.codec, prompts, [pair.rejected for pair in asked])
    features = row.features
    found = fit_ensemble(
        lambda sites, index: features.differences(sites, rows[index]),
        candidate_sites(probe_depths(reader.base.n_layers, config.probe_depths)),
        features.p_chosen[rows],
        features.votes[rows],
        folds_of(pairs, config.folds, seed),
    )
    return torch.stack([member.scores(features.differences, held_out) for member in found.members]).mean(dim=0)


def _tuned_alone(row: Row, rows: Tensor, held_out: Tensor, seed: int) -> Tensor:
    """The top layers and their head from zero; the epoch with the lowest loss on a sixth of the pairs is kept."""
    config = row.config.model_copy(update={"seed": seed, "label_smoothing": 0.1})
    run, count = RewardRun.fresh(row.base, config), max(1, len(rows) // 6)
    best, scores = float("inf"), torch.zeros(len(held_out))
    for epoch in range(config.epochs):
        train_epoch(run, row.features, rows[count:], config, epoch)
        found = row.features.top_differences(run.model, rows[:count].tolist())
        loss = float(torch.nn.functional.binary_cross_entropy_with_logits(found, row.features.p_chosen[rows[:count]]))
        if loss < best:
            best, scores = loss, row.features.top_differences(run.model, held_out.tolist())
    return scores


def _middle(row: Row) -> tuple[Site, ...]:
    return (Site(RewardModel.on_base(row.base, 0.7).base.n_layers // 2, "mean"),)


def _trl(row: Row, rows: Tensor, held_out: Tensor, seed: int) -> tuple[float, float]:
    """TRL's RewardTrainer with its default settings, all layers; it learns from the pairs that have a winner."""
    learned, asked = (
        [pair for index in places.tolist() if (pair := row.pairs[index]).p_chosen != 0.5] for places in (rows, held_out)
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, pairs in (("pairs", learned), ("held_out", asked)):
            (folder / f"{name}.json").write_text(json.dumps(_as_rows(row.codec, pairs)), encoding="utf-8")
        found = run_trl("reward", folder, row.model, seed, 0.0)
    return statistics.mean(difference > 0 for difference in found["differences"]), found["seconds"]


def _as_rows(codec: TextCodec, pairs: Sequence[Preference]) -> list[dict[str, Any]]:
    return as_read(codec, [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs])
