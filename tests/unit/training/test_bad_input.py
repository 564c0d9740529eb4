"""Unusable input is refused with a clear error, long input is truncated and counted, and good states are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import nudge
from typer.testing import CliRunner, Result

from training.__main__ import app
from training.config import PPOConfig, RewardConfig, SamplingConfig, SFTConfig
from training.data.split import split_of
from training.data.types import Demonstration, Preference, PromptRecord, Split
from training.errors import CheckpointError, DivergedError
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.train import train_ppo
from training.ppo.trainer import Start
from training.reward.report import RewardPoint
from training.reward.train import train_reward
from training.runs.checkpoints import Checkpoints
from training.sft.train import train_sft

Run = Callable[..., Result]

PAIRS = [Preference(f"What is {n}?", f"tea {n}", f"egg {n}") for n in range(40)]
REWARD = RewardConfig(epochs=3, patience_epochs=3)
PPO = PPOConfig(
    best_of=2,
    origin_answers=2,
    iterations=2,
    prompts_per_iteration=4,
    minibatch_size=4,
    epochs=1,
    sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=6),
    checkpoint_every_iterations=1,
)
SFT = SFTConfig(epochs=1, batch_size=8, checkpoint_every_steps=2, precision="float32")


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's tokenizer."""
    return TextCodec.load(str(tiny_model_dir))


@pytest.fixture
def run(tmp_path: Path, tiny_model_dir: Path) -> Run:
    """Runs a command on the tiny model with short settings; options are files in a folder."""
    config = {"reward": REWARD.model_dump(), "ppo": PPO.model_dump(), "sft": SFT.model_dump()}
    (tmp_path / "settings.json").write_text(json.dumps(config))

    def run(command: str, out: str = "out", **options: str) -> Result:
        given = {"model": str(tiny_model_dir), "device": "cpu"}
        given |= {name: str(tmp_path / value) for name, value in {"config": "settings.json", "out": out}.items()}
        given |= {name.replace("_", "-"): str(tmp_path / value) for name, value in options.items()}
        return CliRunner().invoke(
            app, [command, *(part for item in given.items() for part in (f"--{item[0]}", item[1]))]
        )

    return run


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _another(folder: Path) -> Any:
    model = load_causal_lm(str(folder), "cpu")
    nudge(model.transformer.h[0].parameters())
    return model


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "What?", "chosen": "tea"}, 'line 1: no "rejected"'),
        ({"prompt": "What?", "chosen": "tea", "rejected": " "}, '"rejected" is blank'),
        ({"prompt": "What?", "chosen": "tea", "rejected": "tea"}, "are the same text"),
        ({"prompt": "What?", "chosen": "tea", "rejected": "egg", "p_chosen": 0.3}, "a number from 0.5 to 1"),
        ({"prompt": "What?", "chosen": "tea", "rejected": "egg", "p_chosen": float("nan")}, "a number from 0.5 to 1"),
    ],
)
def test_one_sided_preferences_are_refused(run: Run, tmp_path: Path, row: dict[str, Any], words: str) -> None:
    """The error names the line of a pair with one answer, identical answers or nonsensical votes."""
    _write(tmp_path / "pairs.jsonl", [row])
    found = run("reward", preferences="pairs.jsonl")
    assert found.exit_code == 2
    assert words in found.stderr
    assert len([line for line in found.stderr.splitlines() if line]) == 1


@pytest.mark.parametrize(("command", "option"), [("sft", "data"), ("reward", "preferences"), ("ppo", "prompts")])
def test_an_empty_file_is_refused(run: Run, tmp_path: Path, command: str, option: str) -> None:
    """Each command says that there is nothing to train on."""
    (tmp_path / "empty.jsonl").touch()
    more = {"reward_model": "reward"} if command == "ppo" else {}
    found = run(command, **{option: "empty.jsonl"}, **more)
    assert found.exit_code == 2
    assert any(words in found.stderr for words in ("no demonstration", "too few preferences", "contains no prompts"))


@pytest.mark.slow
def test_what_is_too_long_is_cut_and_counted_in_every_report(run: Run, tmp_path: Path) -> None:
    """A model of 128 positions reads the end of three long prompts, and each report counts prompts, not sequences."""
    texts = [f"What is {n}?" for n in range(40)]
    long = [index for index, text in enumerate(texts) if split_of("then " * 200 + text) is Split.TRAIN][:3]
    texts = ["then " * 200 + text if index in long else text for index, text in enumerate(texts)]
    _write(tmp_path / "pairs.jsonl", [{"prompt": text, "chosen": "tea", "rejected": "egg"} for text in texts])
    _write(tmp_path / "prompts.jsonl", [{"prompt": text, "answer": "tea"} for text in texts])
    for command, options in (
        ("sft", {"data": "prompts.jsonl"}),
        ("reward", {"preferences": "pairs.jsonl"}),
        ("ppo", {"prompts": "prompts.jsonl", "reward_model": "reward"}),
    ):
        found = run(command, out=command, **options)
        assert found.exit_code == 0, found.stderr
        assert "3 prompts longer than" in found.stderr
        assert json.loads((tmp_path / command / "report.json").read_text())["truncated_prompts"] == 3


def test_a_reward_model_that_diverges_leaves_its_last_good_checkpoint(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path
) -> None:
    """A NaN loss stops training with step and remedy; no model is saved, and older checkpoints stay."""

    def interrupt(point: RewardPoint, _total: int) -> None:
        if point.step > 0:  # the probe's point comes before the first epoch
            raise KeyboardInterrupt

    base = load_causal_lm(str(tiny_model_dir), "cpu")
    with pytest.raises(KeyboardInterrupt):
        train_reward(base, codec, PAIRS, REWARD, tmp_path, on_point=interrupt)
    good = tmp_path / "checkpoints" / "fold-0" / "step-000001.pt"
    content = torch.load(good, weights_only=True)
    before = good.read_bytes()
    content["state"]["model"]["head.bias"] += torch.nan
    torch.save(content, good.with_name("step-000002.pt"))
    with pytest.raises(DivergedError, match=r"at step 3'\. The last good checkpoint is kept\. Lower reward"):
        train_reward(base, codec, PAIRS, REWARD, tmp_path)
    assert Checkpoints(good.parent, "").steps() == [1, 2]
    assert good.read_bytes() == before
    assert not (tmp_path / "reward_model.safetensors").exists()
    good.with_name("step-000002.pt").unlink()
    assert train_reward(base, codec, PAIRS, REWARD, tmp_path).curve


def test_nothing_is_learned_from_a_model_of_nans(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A damaged base is detected before the first step, and no checkpoint is written."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    with torch.no_grad():
        base.transformer.h[0].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="base model's activations are NaN"):
        train_reward(base, codec, PAIRS, REWARD, tmp_path / "reward")
    assert not (tmp_path / "reward" / "checkpoints").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Each stage resumes only on the base it began with, and leaves another run's checkpoints alone."""
    prompts = [PromptRecord(pair.prompt) for pair in PAIRS]
    demonstrations = [Demonstration(pair.prompt, pair.chosen) for pair in PAIRS]

    def reward(base: Any) -> None:
        train_reward(base, codec, PAIRS, REWARD, tmp_path / "reward")

    def sft(base: Any) -> None:
        train_sft(base, codec, demonstrations, SFT, tmp_path / "sft")

    def ppo(base: Any) -> None:
        train_ppo(base, Start(), codec, RewardModel.on_base(base, 0.7), prompts, PPO, tmp_path / "ppo")

    for stage in (reward, sft, ppo):
        stage(load_causal_lm(str(tiny_model_dir), "cpu"))
        folder = tmp_path / stage.__name__ / "checkpoints"
        before = {path: path.read_bytes() for path in folder.rglob("*.pt")}
        with pytest.raises(CheckpointError, match="another run"):
            stage(_another(tiny_model_dir))
        assert {path: path.read_bytes() for path in folder.rglob("*.pt")} == before


def test_a_reward_model_of_another_base_is_refused(run: Run, tiny_model_dir: Path, tmp_path: Path) -> None:
    """PPO reports a reward model trained on another base before it samples anything."""
    RewardModel.on_base(_another(tiny_model_dir), 0.7).save(tmp_path / "reward")
    _write(tmp_path / "prompts.jsonl", [{"prompt": pair.prompt} for pair in PAIRS])
    found = run("ppo", prompts="prompts.jsonl", reward_model="reward")
    assert found.exit_code == 2
    assert "was trained on another base model" in found.stderr
