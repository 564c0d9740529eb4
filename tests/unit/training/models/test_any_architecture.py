"""Reward model, PPO and supervised training on a Llama: what each stage's tests show for GPT-2 holds here too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_rotary
from torch import Tensor

from training.config import PPOConfig, RewardConfig, SamplingConfig, SFTConfig
from training.data.types import Demonstration, Preference, PromptRecord
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.report import PPOReport
from training.ppo.train import train_ppo
from training.ppo.trainer import Start
from training.reward.train import train_reward
from training.runs.checkpoints import Checkpoints
from training.sft.train import train_sft

WORDS = ["water", "leaves", "boil", "hot"]
PPO = PPOConfig(
    best_of=2,
    origin_answers=2,
    iterations=3,
    prompts_per_iteration=8,
    minibatch_size=4,
    epochs=2,
    learning_rate=3e-3,
    sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=8),
    checkpoint_every_iterations=1,
)


class EvenTokens(RewardModel):
    """Scores the share of even token ids in a sequence: a rule that needs no training."""

    def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:  # noqa: ARG002
        """The rule."""
        return ((ids % 2 == 0) & mask).sum(dim=1) / mask.sum(dim=1)


@pytest.fixture(scope="module")
def llama_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama and the tiny model's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    for file in tiny_model_dir.glob("tokenizer*"):
        shutil.copy(file, folder)
    codec = TextCodec.load(str(tiny_model_dir))
    tiny_rotary(
        n_layer=3,
        vocab_size=len(codec.tokenizer),
        max_position_embeddings=128,
        bos_token_id=codec.eos_id,
        eos_token_id=codec.eos_id,
        pad_token_id=codec.pad_id,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def codec(llama_dir: Path) -> TextCodec:
    """Its tokenizer."""
    return TextCodec.load(str(llama_dir))


def _run_ppo(folder: Path, codec: TextCodec, config: PPOConfig, out: Path, **options: Any) -> PPOReport:
    base = load_causal_lm(str(folder), "cpu")
    prompts = [PromptRecord(f"What is {number}?") for number in range(40)]
    return train_ppo(base, Start(), codec, EvenTokens(base, 1), prompts, config, out, **options)


def _interrupt(step: int) -> Any:
    def interrupt(*_point: object) -> None:
        interrupt.calls += 1  # type: ignore[attr-defined]
        if interrupt.calls == step:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    interrupt.calls = 0  # type: ignore[attr-defined]
    return interrupt


@pytest.mark.slow
def test_a_reward_model_learns_and_resumes(llama_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """From 80 pairs it learns to rank unseen pairs; interrupted and resumed, it is bit-for-bit the same."""
    pairs = [
        Preference(f"What is {n}?", f"{WORDS[n % 4]} tea {WORDS[n % 3]}", f"{WORDS[n % 4]} egg {WORDS[n % 3]}")
        for n in range(80)
    ]
    config = RewardConfig(learning_rate=3e-3, head_learning_rate=3e-3, epochs=4, patience_epochs=4)

    def train(out: Path, **options: Any) -> Any:
        return train_reward(load_causal_lm(str(llama_dir), "cpu"), codec, pairs, config, out, **options)

    whole = train(tmp_path / "whole")
    assert whole.accuracy["test"] == 1.0
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", on_point=_interrupt(2))
    assert train(tmp_path / "killed") == whole
    files = [tmp_path / name / "reward_model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    RewardModel.load(tmp_path / "whole", load_causal_lm(str(llama_dir), "cpu"))


@pytest.mark.slow
def test_ppo_learns(llama_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Rewarded for even tokens, its score rises; it starts at the base, with KL 0 and ratio 1."""
    changes = {
        "iterations": 20,
        "prompts_per_iteration": 32,
        "minibatch_size": 16,
        "epochs": 4,
        "kl_coefficient": 0.0,
        "checkpoint_every_iterations": 20,
    }
    report = _run_ppo(llama_dir, codec, PPO.model_copy(update=changes), tmp_path)
    assert report.stopped is None
    assert report.curve[0].kl_nats == 0.0
    assert all(point.first_ratio_gap < 1e-4 for point in report.curve)
    first, last = report.curve[:4], report.curve[-4:]
    assert sum(point.score for point in last) / 4 > sum(point.score for point in first) / 4 + 0.05


def test_an_interrupted_ppo_run_equals_an_uninterrupted_one(llama_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Weights and report are bit-for-bit the same, and the policy loads as any Llama does."""
    whole = _run_ppo(llama_dir, codec, PPO, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run_ppo(llama_dir, codec, PPO, tmp_path / "killed", on_point=_interrupt(2))
    assert _run_ppo(llama_dir, codec, PPO, tmp_path / "killed") == whole
    left, right = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("whole", "killed"))
    assert left.keys() == right.keys() == load_file(llama_dir / "model.safetensors").keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert load_causal_lm(str(tmp_path / "whole" / "policy"), "cpu").config.model_type == "llama"


def test_supervised_training_learns_and_resumes(llama_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The loss falls; interrupted after three steps and resumed, the weights are bit-for-bit the same."""
    items = [Demonstration(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(20)]
    config = SFTConfig(epochs=3, batch_size=4, learning_rate=3e-3, checkpoint_every_steps=3, precision="float32")

    def train(out: Path, **options: Any) -> Any:
        return train_sft(load_causal_lm(str(llama_dir), "cpu"), codec, items, config, out, **options)

    whole = train(tmp_path / "whole")
    assert whole.curve[-1].validation_loss < whole.curve[0].validation_loss
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", on_step=_interrupt(4))
    assert Checkpoints(tmp_path / "killed" / "checkpoints", "").steps() == [3]
    assert train(tmp_path / "killed") == whole
    left, right = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(left[name], right[name]) for name in left)
