"""Reward-model accuracy by annotator agreement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import RewardConfig
from training.data.split import split_of
from training.data.types import Preference, PreferenceSource, Split
from training.models.load import load_causal_lm
from training.models.text import TextCodec
from training.reward.measures import accuracy_by_agreement, accuracy_of, agreement_of, left_share
from training.reward.report import RewardReport
from training.reward.train import train_reward


def test_even_scores_are_wrong_and_ties_dont_count() -> None:
    """Of four pairs, one is a tie; of the others, one is ranked correctly, one incorrectly and one has equal scores."""
    differences, p_chosen = torch.tensor([1.0, -1.0, 0.0, 5.0]), torch.tensor([1.0, 0.8, 1.0, 0.5])
    found = accuracy_of(differences, p_chosen, torch.arange(4))
    assert (found.accuracy, found.pairs) == (pytest.approx(1 / 3), 3)


def test_accuracy_by_agreement_by_hand() -> None:
    """Two single votes, one ranked right; three unanimous, all right; one split, wrong; ties count nowhere."""
    differences = torch.tensor([1.0, -1.0, 2.0, 2.0, 2.0, -1.0, 3.0])
    p_chosen = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 2 / 3, 0.5])
    votes = torch.tensor([1, 1, 2, 3, 4, 3, 2])
    groups = torch.arange(7)
    found = accuracy_by_agreement(differences, p_chosen, votes, groups)
    assert {name: (group.accuracy, group.pairs) for name, group in found.items()} == {
        "one vote": (0.5, 2),
        "unanimous": (1.0, 3),
        "split": (0.0, 1),
    }
    assert found["unanimous"].interval[1] == 1.0
    empty = accuracy_by_agreement(differences[:0], p_chosen[:0], votes[:0], groups[:0])
    assert all((group.accuracy, group.interval, group.pairs) == (None, (0.0, 1.0), 0) for group in empty.values())


def test_a_report_counts_pairs_by_agreement(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Every pair outside the test part that has a winner is in the group of its votes."""
    shares = {0: (1, 1.0), 1: (3, 1.0), 2: (3, 2 / 3), 3: (2, 0.5)}
    pairs = [
        Preference(f"What is {n}?", f"tea {n}", f"egg {n}", p_chosen=shares[n % 4][1], votes=shares[n % 4][0])
        for n in range(80)
    ]
    codec = TextCodec.load(str(tiny_model_dir))
    report = train_reward(
        load_causal_lm(str(tiny_model_dir), "cpu"),
        codec,
        pairs,
        RewardConfig(tune="never"),
        tmp_path,
        min_preferences=1,
    )
    held_out = [n % 4 for n, pair in enumerate(pairs) if split_of(pair.prompt) is not Split.TEST]
    expected = {name: held_out.count(kind) for kind, name in enumerate(("one vote", "unanimous", "split"))}
    assert {name: group.pairs for name, group in report.accuracy_by_agreement.items()} == expected
    assert RewardReport.from_json(json.loads((tmp_path / "report.json").read_text())) == report
    assert (report.prompts, report.annotators, report.held_out_by) == (80, 0, "prompt")


def test_agreement_by_hand() -> None:
    """Of a unanimous pair of three votes all 3 pairs of votes agree, of a 2:1 one 1 in 3: together 4 in 6."""
    pairs = [
        Preference("a", "x", "y", 1.0, 3),
        Preference("b", "x", "y", 2 / 3, 3),
        Preference("c", "x", "y", 1.0, 1),
    ]
    assert agreement_of(pairs) == pytest.approx(4 / 6)
    assert agreement_of(pairs[2:]) is None


def test_the_left_answers_share_by_hand() -> None:
    """Three of four decided votes went to the left; rewrites and pairs of unknown side have no votes for either."""
    sources = [
        PreferenceSource(left_votes=2, right_votes=1),
        PreferenceSource(left_votes=1),
        PreferenceSource(rewrite=True),
    ]
    pairs = [Preference(f"What is {n}?", "tea", "egg", source=source) for n, source in enumerate(sources)]
    found = left_share(pairs)
    assert found is not None
    assert (found.accuracy, found.pairs, found.prompts) == (0.75, 4, 2)
    assert found.holds(0.5)
    assert left_share(pairs[2:]) is None
