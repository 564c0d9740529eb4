"""Odd sets of preferences: a clear error or a sound result, and never an infinite weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from training.config import RewardConfig
from training.data.types import Preference
from training.errors import DataError, DivergedError
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.reward.report import RewardReport
from training.reward.train import train_reward

CONFIG = RewardConfig(tune="never")


@pytest.fixture
def base(tiny_model_dir: Path) -> Any:
    """The tiny model."""
    return load_causal_lm(str(tiny_model_dir), "cpu")


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """Its tokenizer."""
    return TextCodec.load(str(tiny_model_dir))


def _train(base: Any, codec: TextCodec, pairs: list[Preference], out: Path, least: int = 1) -> RewardReport:
    return train_reward(base, codec, pairs, CONFIG, out, min_preferences=least)


def _weights(out: Path, base: Any) -> torch.Tensor:
    model = RewardModel.load(out, base)
    assert model.probe is not None
    return model.probe.weight


def test_all_ties(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """Nothing but ties is an error that says so."""
    with pytest.raises(DataError, match="0 pairs with a winner and 9 ties"):
        _train(base, codec, [Preference(f"{n}?", "tea", "egg", 0.5) for n in range(9)], tmp_path)


def test_one_prompt(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """One prompt's pairs are held out one by one, and the report says so."""
    words = ["hot", "tea", "water", "boil", "leaves", "egg", "minutes", "eight", "put", "it"]
    pairs = [Preference("What is tea?", f"{word} tea {n}", f"egg {word}") for n, word in enumerate(words)]
    report = _train(base, codec, pairs, tmp_path)
    assert (report.held_out_by, report.prompts) == ("pair", 1)
    assert report.out_of_fold is not None
    assert report.out_of_fold.pairs == len(pairs)
    assert any("held out one by one" in sentence for sentence in report.in_words())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_pairs_than_folds(base: Any, codec: TextCodec, tmp_path: Path, count: int) -> None:
    """There are as many parts as pairs; a single pair can't be held out from itself, so nothing is measured."""
    pairs = [Preference("What is tea?", f"hot tea {n}", f"egg {n}") for n in range(count)]
    report = _train(base, codec, pairs, tmp_path)
    assert report.folds == count
    assert bool(torch.isfinite(_weights(tmp_path, base)).all())
    if count == 1:
        assert report.held_out().accuracy is None


def test_identical_pairs(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """The same pair judged in twenty rows is one part: nothing else is there to learn from."""
    report = _train(base, codec, [Preference("What is tea?", "hot tea", "egg")] * 20, tmp_path)
    assert report.folds == 1
    assert bool(torch.isfinite(_weights(tmp_path, base)).all())


def test_separable_pairs(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """Where tea always wins, the weights stay finite, and so does every score."""
    pairs = [Preference(f"What is {n}?", f"hot tea {n}", f"hot egg {n}") for n in range(40)]
    _train(base, codec, pairs, tmp_path)
    weights = _weights(tmp_path, base)
    assert bool(torch.isfinite(weights).all())
    scores = RewardModel.load(tmp_path, base).score_texts(codec, ["What is 1?"] * 2, ["hot tea", "hot egg"])
    assert abs(float(scores[0] - scores[1])) < 100


def test_blank_answers(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """A blank answer that lost is its end of text alone, and is scored as any other."""
    pairs = [Preference(f"What is {n}?", f"hot tea {n}", "") for n in range(30)]
    report = _train(base, codec, pairs, tmp_path)
    assert report.held_out().accuracy == 1.0


def test_features_that_arent_numbers(base: Any, codec: TextCodec, tmp_path: Path) -> None:
    """A base whose activations are NaN is a clear error, and nothing is saved."""
    with torch.no_grad():
        base.transformer.h[0].mlp.c_proj.bias[0] = torch.nan
    pairs = [Preference(f"What is {n}?", f"hot tea {n}", f"hot egg {n}") for n in range(30)]
    with pytest.raises(DivergedError, match="activations are NaN or infinite"):
        _train(base, codec, pairs, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
