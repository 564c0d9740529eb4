"""Reward-model accuracy by annotator agreement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import RewardConfig
from training.data.split import split_of
from training.data.types import Preference, Split
from training.models.load import load_causal_lm
from training.models.text import TextCodec
from training.reward.measures import accuracy_by_agreement, count_right
from training.reward.report import RewardReport
from training.reward.tune import train_reward


def test_even_scores_are_wrong_and_ties_dont_count() -> None:
    """Of four pairs, one is a tie; of the others, one is ranked correctly, one incorrectly and one has equal scores."""
    assert count_right(torch.tensor([1.0, -1.0, 0.0, 5.0]), torch.tensor([1.0, 0.8, 1.0, 0.5])) == (1, 3)


def test_accuracy_by_agreement_by_hand() -> None:
    """Two single votes, one ranked right; three unanimous, all right; one split, wrong; ties count nowhere."""
    differences = torch.tensor([1.0, -1.0, 2.0, 2.0, 2.0, -1.0, 3.0])
    p_chosen = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 2 / 3, 0.5])
    votes = torch.tensor([1, 1, 2, 3, 4, 3, 2])
    found = accuracy_by_agreement(differences, p_chosen, votes)
    assert {name: (group.accuracy, group.pairs) for name, group in found.items()} == {
        "one vote": (0.5, 2),
        "unanimous": (1.0, 3),
        "split": (0.0, 1),
    }
    assert found["unanimous"].interval == (pytest.approx(0.4385, abs=1e-4), 1.0)
    empty = accuracy_by_agreement(differences[:0], p_chosen[:0], votes[:0])
    assert all((group.accuracy, group.interval, group.pairs) == (None, (0.0, 1.0), 0) for group in empty.values())


def test_a_report_counts_held_out_pairs_by_agreement(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Every held-out pair with a winner is in the group of its votes; the report survives a round trip to its file."""
    shares = {0: (1, 1.0), 1: (3, 1.0), 2: (3, 2 / 3), 3: (2, 0.5)}
    pairs = [
        Preference(f"What is {n}?", f"tea {n}", f"egg {n}", p_chosen=shares[n % 4][1], votes=shares[n % 4][0])
        for n in range(80)
    ]
    codec = TextCodec.load(str(tiny_model_dir))
    report = train_reward(
        load_causal_lm(str(tiny_model_dir), "cpu"), codec, pairs, RewardConfig(epochs=1), tmp_path, min_preferences=1
    )
    held_out = [n % 4 for n, pair in enumerate(pairs) if split_of(pair.prompt) is not Split.TRAIN]
    expected = {name: held_out.count(kind) for kind, name in enumerate(("one vote", "unanimous", "split"))}
    assert {name: group.pairs for name, group in report.accuracy_by_agreement.items()} == expected
    assert RewardReport.from_json(json.loads((tmp_path / "report.json").read_text())) == report
