"""Trains the reward model on preference pairs: probe, then tune.

Everything but the frozen test part is used: each pair teaches the models of the other parts, and is scored by the one
of its own. Those models are the ensemble that is saved.

Reference: Ziegler et al. 2019 (1909.08593), equation 1; Stiennon et al. 2020 (2009.01325), section 3.4.

Legend: N pairs, K models of the ensemble, J judges, L depths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.config import RewardConfig, TextConfig
from training.data import PAIR_SCORES, Preference, Split, dataset_digest, split_of, write_pair_scores
from training.errors import DataError
from training.models import Probe, RewardModel, Site, TextCodec, backbone_of, frozen_copies
from training.reward.choose import FittedProbes, Sites, fit_ensemble
from training.reward.features import PairFeatures, pair_features
from training.reward.folds import folds_of
from training.reward.measures import Measured, first_point, measure
from training.reward.report import RewardReport
from training.reward.tune import PROBE_SHARE, OnPoint, Tuner, Tuning
from training.runs import run_digest


def train_reward(
    base: Any,
    codec: TextCodec,
    preferences: Sequence[Preference],
    config: RewardConfig,
    out: Path,
    *,
    min_preferences: int = 20,
    on_point: OnPoint | None = None,
) -> RewardReport:
    """Train a reward model and save it in `out` with `report.json`; resume from a checkpoint found there.

    Every random choice depends only on (seed, epoch), so a resumed run equals an uninterrupted one.

    Args:
        base: the base model (a transformers PreTrainedModel); it isn't changed.
        codec: the base's tokenizer and template.
        preferences: all pairs; their prompts decide which split they belong to.
        config: hyperparameters.
        out: where model, report and checkpoints go.
        min_preferences: the minimum number of pairs with a winner.
        on_point: called after every epoch.

    Raises:
        DataError: there is too little to learn from.
        CheckpointError: `out` holds another run.
        DivergedError: an activation, a loss or its gradient is NaN or infinite.
    """
    check_preferences(preferences, min_preferences)
    learned = [pair for pair in preferences if split_of(pair.prompt) is not Split.TEST]
    test = [pair for pair in preferences if split_of(pair.prompt) is Split.TEST]
    if all(pair.is_tie for pair in learned):
        raise DataError(
            "no training pair has a winner",
            got=f"{len(learned)} training pairs, all ties",
            remedy="Judge more prompts.",
        )
    (copied,) = frozen_copies(base)
    reader = RewardModel.on_base(copied, config.frozen_share)
    depths = probe_depths(reader.base.n_layers, config.probe_depths)
    refusal = why_not_tune(reader, len(learned), config)
    pairs = pair_features(
        reader,
        codec,
        learned,
        depths,
        keep_trunk=refusal is None,
        precision=config.precision,
        memory_mb=config.activation_memory_mb,
        folder=out,
    )
    folds = folds_of(learned, config.folds, config.seed)
    probes = fit_ensemble(pairs.differences, candidate_sites(depths), pairs.p_chosen, pairs.votes, folds)
    first = first_point(probes, pairs)
    if on_point:
        on_point(first, 1)
    tuning = None
    if refusal is None:
        digest = _digest(reader, codec.config, preferences, config)
        tuning = Tuner(base, pairs, folds, probes, config, out, digest, on_point).tune(first)
    model = _assembled(base, pairs, probes, tuning)
    found = Measured(learned, test, pairs, folds, probes, tuning, refusal)
    report = measure(model, codec, found, first)
    model.save(out)
    report.save(out)
    write_pair_scores(out / PAIR_SCORES, found.scored(report.temperature))
    return report


def check_preferences(preferences: Sequence[Preference], min_preferences: int) -> None:
    """Refuse too small a set of preferences.

    Raises:
        DataError: there are fewer pairs with a winner than `min_preferences`.
    """
    untied = sum(not preference.is_tie for preference in preferences)
    if untied < max(1, min_preferences):
        raise DataError(
            "too few preferences to train a reward model",
            got=f"{untied} pairs with a winner and {len(preferences) - untied} ties",
            expected=f"at least {max(1, min_preferences)} with a winner",
            remedy="Judge more pairs, or lower gates.min_preferences.",
        )


def probe_depths(n_layers: int, count: int) -> tuple[int, ...]:
    """About `count` depths, spread evenly up to the last layer; the embeddings alone know too little."""
    count = min(count, n_layers)
    return tuple(sorted({round(n_layers * (place + 1) / count) for place in range(count)}))


def candidate_sites(depths: Sequence[int]) -> list[list[Sites]]:
    """Where probes might read, in families: the means at all depths, which vary least; one depth's end of text; all of
    both.
    """
    means, lasts = (tuple(Site(depth, pool) for depth in depths) for pool in ("mean", "last"))
    return [[means], [(last,) for last in lasts], [tuple(sorted((*means, *lasts)))]]


def why_not_tune(reader: RewardModel, pairs: int, config: RewardConfig) -> str | None:
    """Why the top layers aren't trained at all, None if they are."""
    if config.tune == "never":
        return "reward.tune is never"
    weights = sum(value.numel() for value in reader.top.parameters())
    if config.tune == "auto" and weights > config.tune_weights_per_pair * pairs:
        return (
            f"the top {reader.own_layers} layers have {weights / 1e6:.0f} million weights, {weights // pairs:,} for "
            f"each pair, more than the {config.tune_weights_per_pair:,} up to which that pays"
        )
    return None


def _assembled(base: Any, pairs: PairFeatures, probes: FittedProbes, tuning: Tuning | None) -> RewardModel:
    """The model that is saved: the ensemble of probes, the judges, and the top layers where they were kept."""
    run = tuning.run if tuning else None
    share = PROBE_SHARE if run else 1.0
    members = [*probes.members, *probes.judges]
    sites = tuple(sorted({site for member in members for choice in member.choices for site in choice.sites}))
    backbone = backbone_of(base)
    size = backbone.hidden_size
    probe = Probe(sites, size, len(probes.members), len(probes.judges))
    for row, member in enumerate(members):
        for choice, vector in zip(member.choices, member.weights, strict=True):
            parts = torch.split(pairs.unscaled(choice.sites, vector), size)
            for site, part in zip(choice.sites, parts, strict=True):
                at = sites.index(site) * size
                probe.weight.data[row, at : at + size] += share * part.float()
    probe.center.data.copy_(pairs.center(sites))
    model = RewardModel(base, run.model.own_layers if run else 0, 1, probe.to(backbone.device))
    if run:
        model.top.load_state_dict(run.model.top.state_dict())
        model.head.load_state_dict(run.model.head.state_dict())
    model.uncertainty_scale = jackknife_scale(len(probes.members))
    return model


def jackknife_scale(groups: int) -> float:
    """What turns the deviation of estimates that each leave out one of K groups into the standard error of one of all.

    The estimates share most of their pairs, so they differ far less than independent ones would.

    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 11.5.
    """
    return (groups - 1) / groups**0.5 if groups > 1 else 1.0


def _digest(model: RewardModel, text: TextConfig, preferences: Sequence[Preference], config: RewardConfig) -> str:
    parts = model.base.trunk_digest(model.base.n_layers), dataset_digest(preferences)
    return run_digest("reward", *parts, text.model_dump_json(), config.model_dump_json())
