"""Reward-model training: it learns from little data, reports what it can't measure as None, and resumes exactly."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from training.config import RewardConfig
from training.data.split import split_of
from training.data.types import Preference, Split
from training.errors import CheckpointError, DataError
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.reward.report import RewardPoint, RewardReport
from training.reward.train import train_reward

CONFIG = RewardConfig(learning_rate=3e-3, head_learning_rate=3e-3, epochs=3, folds=3)
ALWAYS = CONFIG.model_copy(update={"tune": "always", "epochs": 1})
NEVER = CONFIG.model_copy(update={"tune": "never"})


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
    assert report.out_of_fold is not None
    assert report.out_of_fold.pairs == report.n["train"] + report.n["selection"]
    assert report.out_of_fold.accuracy == 1.0
    assert report.accuracy["test"] == 1.0
    assert points[0] == report.curve[0]
    assert report.curve[0].step == 0
    model = RewardModel.load(tmp_path, base)
    assert (model.heads, model.judges) == (3, 1)
    for judge in (False, True):
        scores = model.score_texts(codec, ["What is 900?"] * 2, ["hot tea leaves", "hot egg leaves"], judge=judge)
        assert scores[0] > scores[1]
    assert RewardReport.from_json(json.loads((tmp_path / "report.json").read_text())) == report
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any("that it didn't learn from: 100%" in sentence for sentence in report.in_words())


def test_before_tuning_the_scores_are_the_probes(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With steps too small to matter, kept layers leave every score at half of what the probe gave it."""
    config = RewardConfig(learning_rate=1e-12, head_learning_rate=1e-12, epochs=1, folds=3, weight_decay=0.0)
    scores = []
    for tune, layers in (("never", 0), ("always", 1)):
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        out = tmp_path / tune
        report = train_reward(base, codec, _preferences(40), config.model_copy(update={"tune": tune}), out)
        assert report.tuned is (tune == "always")
        model = RewardModel.load(out, base)
        assert model.own_layers == layers
        scores.append(model.score_texts(codec, ["What is 1?"] * 2, ["hot tea", "hot egg"]))
    torch.testing.assert_close(scores[0] / 2, scores[1], rtol=0, atol=1e-4)


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Runs interrupted while trying the layers, and while training them for good, end bit for bit alike."""
    preferences, config = _preferences(40), CONFIG.model_copy(update={"tune": "always", "epochs": 2})
    asked = 0

    def interrupt(_point: RewardPoint, _total: int) -> None:
        nonlocal asked
        asked += 1
        if asked in {3, 9}:
            raise KeyboardInterrupt

    def train(out: Path, on_point=None) -> RewardReport:
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        return train_reward(base, codec, preferences, config, out, on_point=on_point)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "resumed", interrupt)
    assert train(tmp_path / "resumed") == train(tmp_path / "whole")
    name = "reward_model.safetensors"
    assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_runs_folder_is_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A folder with checkpoints from other data is refused."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    train_reward(base, codec, _preferences(40), ALWAYS, tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        train_reward(base, codec, _preferences(41), ALWAYS, tmp_path)


def test_too_few_pairs_are_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The error says how many pairs there are and how many are needed; ties don't count."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    ties = [Preference(f"What is tie {n}?", "tea", "egg", 0.5) for n in range(30)]
    with pytest.raises(DataError, match="got '5 pairs with a winner and 30 ties'; expected at least 20"):
        train_reward(base, codec, _preferences(5) + ties, CONFIG, tmp_path)
    held_out = [item for item in _preferences(200) if split_of(item.prompt) is Split.TEST]
    with pytest.raises(DataError, match="no training pair has a winner"):
        train_reward(base, codec, held_out, CONFIG, tmp_path)


def test_without_test_pairs_it_says_so(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With only training pairs, the test part's accuracy is None and its interval [0, 1]; the rest is out of fold."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    only_train = [item for item in _preferences(60) if split_of(item.prompt) is Split.TRAIN]
    report = train_reward(base, codec, only_train, NEVER, tmp_path)
    assert report.accuracy["selection"] is None
    assert report.accuracy["test"] is None
    assert report.accuracy_interval == (0.0, 1.0)
    assert report.out_of_fold is not None
    assert report.out_of_fold.pairs == len(only_train)


def test_ties_pull_scores_together(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """If half the voters disagree, the same pairs end with smaller score differences."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")

    def gap(p_chosen: float) -> float:
        pairs = [Preference(item.prompt, item.chosen, item.rejected, p_chosen) for item in _preferences(40)]
        pairs += [Preference(item.prompt, item.chosen, item.rejected, 1.0) for item in _preferences(2, seed=1)]
        out = tmp_path / str(p_chosen)
        train_reward(base, codec, pairs, NEVER, out, min_preferences=1)
        scores = RewardModel.load(out, base).score_texts(codec, ["What is 1?"] * 2, ["hot tea", "hot egg"])
        return float(scores[0] - scores[1])

    assert abs(gap(0.5)) < 0.5 * gap(1.0)


def test_layers_that_are_no_better_are_dropped(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With random votes, training stops early in every part, and the probe alone is kept."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    draw = random.Random(3)
    tossed = [
        item if draw.random() < 0.5 else Preference(item.prompt, item.rejected, item.chosen)
        for item in _preferences(60)
    ]
    points: list[RewardPoint] = []
    config = RewardConfig(learning_rate=5e-3, head_learning_rate=5e-3, epochs=12, patience_epochs=1, folds=3)
    report = train_reward(base, codec, tossed, config, tmp_path, on_point=lambda point, _: points.append(point))
    assert not report.tuned
    assert report.best_epoch == 0
    assert "dropped" in report.tuning
    assert len(points) < 1 + 3 * 12
    assert RewardModel.load(tmp_path, base).own_layers == 0


def test_too_many_weights_for_the_pairs_arent_trained(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The report says why, and how many weights there were for each pair."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    config = RewardConfig(tune_weights_per_pair=10, folds=3)
    report = train_reward(base, codec, _preferences(40), config, tmp_path)
    assert not report.tuned
    assert "for each pair, more than the 10" in report.tuning


def test_settings_that_name_heads_are_read() -> None:
    """Earlier versions had `heads`: several are as many folds, and a single one is today's default."""
    assert RewardConfig.model_validate({"heads": 4}).folds == 4
    assert RewardConfig.model_validate({"heads": 1}) == RewardConfig()
