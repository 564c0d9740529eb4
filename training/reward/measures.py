"""Measures of a trained reward model, on data it did and didn't learn from.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.data import Preference, Split, split_of
from training.evaluation import accuracy_with_interval, correlation, expected_calibration_error, fit_temperature
from training.models import RewardModel, TextCodec
from training.reward.features import PairFeatures
from training.reward.report import HELD_OUT, GroupAccuracy, RewardPoint, RewardReport


def count_right(differences: Tensor, p_chosen: Tensor) -> tuple[int, int]:
    """How many pairs with a winner are ranked correctly, and how many there are; equal scores count as wrong.

    Args:
        differences: (N,) score of the chosen minus score of the rejected answer.
        p_chosen: (N,) share of votes for the chosen one.
    """
    untied = p_chosen != 0.5
    return int((differences[untied] > 0).sum()), int(untied.sum())


def accuracy_by_agreement(differences: Tensor, p_chosen: Tensor, votes: Tensor) -> dict[str, GroupAccuracy]:
    """Accuracy on pairs that one person judged, that several judged alike, and that people were split over.

    A model should be right more often where people agree; the pairs they are split over limit its accuracy.

    Args:
        differences: (N,) score of the chosen minus score of the rejected answer.
        p_chosen: (N,) share of votes for the chosen one; ties are left out.
        votes: (N,) number of people who judged.
    """
    groups = {
        "one vote": votes == 1,
        "unanimous": (votes > 1) & (p_chosen == 1.0),
        "split": (votes > 1) & (p_chosen < 1.0),
    }
    found = {}
    for name, inside in groups.items():
        right, pairs = count_right(differences[inside], p_chosen[inside])
        found[name] = GroupAccuracy(*accuracy_with_interval(right, pairs), pairs)
    return found


def measure(
    model: RewardModel,
    codec: TextCodec,
    preferences: Sequence[Preference],
    features: Mapping[Split, PairFeatures],
    curve: Sequence[RewardPoint],
    best_epoch: int,
) -> RewardReport:
    """Measure accuracy per split, calibration and length correlation; sets the model's temperature.

    Args:
        model: with the weights that are kept.
        codec: has counted the texts it truncated.
        preferences: all pairs, in the same order within each split as in `features`.
        features: by split.
        curve: of its training.
        best_epoch: the epoch whose weights these are.
    """
    by_head = {split: part.all_head_scores(model) for split, part in features.items()}
    scores = {split: part.mean(dim=-1) for split, part in by_head.items()}
    differences = {split: chosen - rejected for split, (chosen, rejected) in scores.items()}
    every = torch.cat([value.flatten() for value in scores.values()])
    fitted_on = Split.SELECTION if len(features[Split.SELECTION]) else Split.TRAIN
    model.temperature = fit_temperature(differences[fitted_on], features[fitted_on].p_chosen)
    counts = {split: count_right(differences[split], part.p_chosen) for split, part in features.items()}
    votes = {split: [pair.votes for pair in preferences if split_of(pair.prompt) is split] for split in HELD_OUT}
    lengths = torch.cat([part.answer_tokens.T.flatten() for part in features.values()])
    return RewardReport(
        accuracy={split.value: accuracy_with_interval(*counts[split])[0] for split in Split},
        accuracy_interval=accuracy_with_interval(*counts[Split.TEST])[1],
        n={split.value: len(features[split]) for split in Split},
        ties={split.value: len(features[split]) - counts[split][1] for split in Split},
        curve=tuple(curve),
        best_epoch=best_epoch,
        temperature=model.temperature,
        calibration_error=expected_calibration_error(
            differences[Split.TEST], features[Split.TEST].p_chosen, model.temperature
        ),
        length_correlation=correlation(every, lengths),
        accuracy_by_agreement=accuracy_by_agreement(
            torch.cat([differences[split] for split in HELD_OUT]),
            torch.cat([features[split].p_chosen for split in HELD_OUT]),
            torch.tensor([count for split in HELD_OUT for count in votes[split]], dtype=torch.long),
        ),
        disagreement=_disagreement(
            torch.cat([by_head[split] for split in HELD_OUT], dim=1),
            torch.cat([features[split].p_chosen for split in HELD_OUT]),
        ),
        truncated_prompts=codec.truncated_prompts,
        truncated_answers=codec.truncated_answers,
    )


def _disagreement(by_head: Tensor, p_chosen: Tensor) -> dict[str, float] | None:
    """Mean standard deviation of the heads' score differences on untied pairs (2, N, K), by whether they are right."""
    differences = (by_head[0] - by_head[1])[p_chosen != 0.5]
    if differences.shape[1] < 2:
        return None
    spreads, right = differences.std(dim=1), differences.mean(dim=1) > 0
    groups = {"right": spreads[right], "wrong": spreads[~right]}
    return {name: float(values.mean()) for name, values in groups.items() if len(values)}
