"""Reward-model training: it learns from little data, reports what it can't measure as None, and resumes exactly."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from training.config import RewardConfig
from training.data.split import split_of
from training.data.types import Preference, Split
from training.errors import CheckpointError, DataError
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.reward.report import RewardPoint, RewardReport
from training.reward.tune import train_reward
from training.runs.checkpoints import Checkpoints

CONFIG = RewardConfig(learning_rate=3e-3, head_learning_rate=3e-3, epochs=4, patience_epochs=4)


def _preferences(count: int, seed: int = 0) -> list[Preference]:
    """Pairs in which the answer about tea wins."""
    draw = random.Random(seed)
    pairs = []
    for number in range(count):
        words = [draw.choice(["water", "leaves", "boil", "hot"]) for _ in range(draw.randint(1, 4))]
        good = [*words[:-1], "tea", *words[-1:]]
        bad = [*words[:-1], "egg", *words[-1:]]
        pairs.append(Preference(f"What is {number}?", " ".join(good), " ".join(bad)))
    return pairs


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's tokenizer."""
    return TextCodec.load(str(tiny_model_dir))


def test_it_learns_who_wins(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Trained on 80 pairs, it ranks unseen pairs correctly, and the saved model is the one in the report."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    points: list[RewardPoint] = []
    report = train_reward(
        base, codec, _preferences(80), CONFIG, tmp_path, on_point=lambda point, _total: points.append(point)
    )
    assert report.n == {split.value: sum(split_of(p.prompt) is split for p in _preferences(80)) for split in Split}
    assert report.accuracy["test"] == 1.0
    assert tuple(points) == report.curve
    assert report.curve[0].train_loss > report.curve[-1].train_loss
    best = min(report.curve, key=lambda point: point.validation_loss or math.inf)
    assert report.curve.index(best) + 1 == report.best_epoch
    model = RewardModel.load(tmp_path, base)
    scores = model.score_texts(codec, ["What is 900?"] * 2, ["hot tea leaves", "hot egg leaves"])
    assert scores[0] > scores[1]
    assert RewardReport.from_json(json.loads((tmp_path / "report.json").read_text())) == report
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A run interrupted after two epochs and resumed ends with bitwise identical weights and report."""
    preferences = _preferences(40)

    def interrupt(_point: RewardPoint, _total: int) -> None:
        if Checkpoints(tmp_path / "resumed" / "checkpoints", "").steps() == [1, 2]:
            raise KeyboardInterrupt

    def train(out: Path, on_point=None) -> RewardReport:
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        return train_reward(base, codec, preferences, CONFIG, out, on_point=on_point)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", interrupt)
    assert train(tmp_path / "resumed") == train(tmp_path / "whole")
    name = "reward_model.safetensors"
    assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_runs_folder_is_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A folder with checkpoints from other data is refused."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    train_reward(base, codec, _preferences(40), CONFIG, tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        train_reward(base, codec, _preferences(41), CONFIG, tmp_path)


def test_too_few_pairs_are_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The error says how many pairs there are and how many are needed; ties don't count."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    ties = [Preference(f"What is tie {n}?", "tea", "egg", 0.5) for n in range(30)]
    with pytest.raises(DataError, match="got '5 pairs with a winner and 30 ties'; expected at least 20"):
        train_reward(base, codec, _preferences(5) + ties, CONFIG, tmp_path)
    held_out = [item for item in _preferences(200) if split_of(item.prompt) is not Split.TRAIN]
    with pytest.raises(DataError, match="no training pair has a winner"):
        train_reward(base, codec, held_out, CONFIG, tmp_path)


def test_without_held_out_pairs_it_says_so(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With only training pairs, held-out accuracy is None, its interval is [0, 1], and the last epoch is kept."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    only_train = [item for item in _preferences(60) if split_of(item.prompt) is Split.TRAIN]
    report = train_reward(base, codec, only_train, CONFIG, tmp_path)
    assert report.accuracy["selection"] is None
    assert report.accuracy["test"] is None
    assert report.accuracy_interval == (0.0, 1.0)
    assert report.best_epoch == CONFIG.epochs
    assert report.curve[-1].validation_loss is None
    assert report.calibration_error is None


def test_ties_pull_scores_together(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """If half the voters disagree, the same pairs end with smaller score differences."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")

    def gap(p_chosen: float) -> float:
        pairs = [Preference(item.prompt, item.chosen, item.rejected, p_chosen) for item in _preferences(40)]
        pairs += [Preference(item.prompt, item.chosen, item.rejected, 1.0) for item in _preferences(2, seed=1)]
        out = tmp_path / str(p_chosen)
        train_reward(base, codec, pairs, CONFIG, out, min_preferences=1)
        scores = RewardModel.load(out, base).score_texts(codec, ["What is 1?"] * 2, ["hot tea", "hot egg"])
        return float(scores[0] - scores[1])

    assert abs(gap(0.5)) < 0.5 * gap(1.0)


def test_it_stops_when_validation_no_longer_improves(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With random votes, training stops `patience_epochs` after the best epoch, which is kept."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    draw = random.Random(3)
    tossed = [
        item if draw.random() < 0.5 else Preference(item.prompt, item.rejected, item.chosen)
        for item in _preferences(80)
    ]
    config = RewardConfig(learning_rate=5e-3, head_learning_rate=5e-3, epochs=30, patience_epochs=2)
    report = train_reward(base, codec, tossed, config, tmp_path)
    assert len(report.curve) == report.best_epoch + 2
    assert len(report.curve) < 30


def test_it_starts_from_even_odds(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The head starts at zero, so one tiny step leaves the loss at ln 2."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    config = RewardConfig(learning_rate=1e-9, head_learning_rate=1e-9, epochs=1)
    report = train_reward(base, codec, _preferences(40), config, tmp_path)
    assert report.curve[0].train_loss == pytest.approx(math.log(2.0), abs=1e-4)
