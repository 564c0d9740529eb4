"""Several heads: trained on resampled pairs, they disagree, and PPO can subtract the disagreement from the reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2

from training.config import PPOConfig, RewardConfig, SamplingConfig
from training.data.types import Preference, PromptRecord
from training.errors import ConfigError
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec, pad_right
from training.objectives import bradley_terry_loss
from training.ppo.train import train_ppo
from training.ppo.trainer import Start
from training.reward.run import resampling_weights
from training.reward.tune import train_reward

SEQUENCES = [[1, 2, 3, EOS], [4, 5, 6, 7, 8, 9, EOS], [1, EOS]]
PAIRS = [Preference(f"What is {n}?", f"hot tea {n}", f"hot egg {n}") for n in range(40)]
REWARD = RewardConfig(learning_rate=3e-3, head_learning_rate=3e-3, epochs=2, heads=4)
PPO = PPOConfig(
    best_of=2,
    origin_answers=2,
    iterations=1,
    prompts_per_iteration=8,
    epochs=1,
    missing_eos_penalty=0.0,
    sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=8),
)


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's tokenizer."""
    return TextCodec.load(str(tiny_model_dir))


def test_the_score_is_the_mean_less_the_penalised_deviation(tmp_path: Path) -> None:
    """The score is the heads' mean, minus the penalty times their deviation; a saved model keeps its heads."""
    base = tiny_gpt2()
    model = RewardModel.on_base(base, 0.7, heads=3)
    nudge(model.parameters())
    ids, mask = pad_right(SEQUENCES, PAD)
    context = model.base.context(mask)
    by_head = model.top_scores(model.trunk(ids, context), context, mask.sum(dim=1) - 1).detach()
    assert by_head.shape == (3, 3)
    torch.testing.assert_close(model.score(ids, mask), by_head.mean(dim=1))
    model.uncertainty_penalty = 2.0
    torch.testing.assert_close(model.score(ids, mask), by_head.mean(dim=1) - 2.0 * by_head.std(dim=1))
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path, base)
    assert (loaded.heads, loaded.uncertainty_penalty) == (3, 0.0)
    torch.testing.assert_close(loaded.score(ids, mask), by_head.mean(dim=1), rtol=0, atol=0)


def test_a_single_head_counts_every_pair_once() -> None:
    """Several heads resample their pairs: integer weights with mean 1 that depend only on the seed."""
    assert resampling_weights(100, 1, seed=0) is None
    weights = resampling_weights(2000, 4, seed=0)
    assert weights is not None
    assert torch.equal(weights, weights.round())
    torch.testing.assert_close(weights.mean(dim=0), torch.ones(4), rtol=0, atol=0.08)
    torch.testing.assert_close(weights.var(dim=0), torch.ones(4), rtol=0, atol=0.15)
    assert torch.equal(weights, resampling_weights(2000, 4, seed=0))  # type: ignore[arg-type]
    assert not torch.equal(weights, resampling_weights(2000, 4, seed=1))  # type: ignore[arg-type]
    assert not torch.equal(weights[:, 0], weights[:, 1])


def test_weights_count_pairs_by_hand() -> None:
    """A pair with weight 2 costs twice as much, and one with weight 0 has no gradient."""
    chosen = torch.tensor([[1.0, 1.0]], requires_grad=True)
    once = bradley_terry_loss(chosen[:, :1], torch.zeros(1, 1), torch.ones(1, 1))
    loss = bradley_terry_loss(chosen, torch.zeros(1, 2), torch.ones(1, 1), weights=torch.tensor([[2.0, 0.0]]))
    assert float(loss.detach()) == pytest.approx(float(once.detach()))
    loss.backward()
    assert chosen.grad is not None
    assert chosen.grad[0, 0] < 0
    assert chosen.grad[0, 1] == 0


def test_trained_heads_disagree_and_resume(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Heads differ since each saw different pairs; the report says by how much; a resumed run is bitwise identical."""

    def train(out: Path, **options: Any) -> Any:
        return train_reward(load_causal_lm(str(tiny_model_dir), "cpu"), codec, PAIRS, REWARD, out, **options)

    def interrupt(*_point: object) -> None:
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    assert whole.disagreement["right"] > 0
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", on_point=interrupt)
    assert train(tmp_path / "killed") == whole
    files = [tmp_path / name / "reward_model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    model = RewardModel.load(tmp_path / "whole", load_causal_lm(str(tiny_model_dir), "cpu"))
    assert float(model.head.weight.detach().std(dim=0).mean()) > 0


def test_ppo_takes_the_uncertainty_off(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The same answers score lower by the penalised deviation; the evaluation doesn't apply the penalty."""
    prompts = [PromptRecord(pair.prompt) for pair in PAIRS]

    def run(penalty: float) -> Any:
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        model = RewardModel.on_base(base, 0.7, heads=4)
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
        config = PPO.model_copy(update={"uncertainty_penalty": penalty, "learning_rate": 1e-12})
        report = train_ppo(base, Start(), codec, model, prompts, config, tmp_path / str(penalty))
        assert model.uncertainty_penalty == 0.0
        return report

    plain, careful = run(0.0), run(1.0)
    assert careful.curve[0].score < plain.curve[0].score
    assert careful.win_rate_vs_base == plain.win_rate_vs_base


def test_a_single_head_knows_no_uncertainty(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """An uncertainty penalty is rejected for a reward model with one head."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    config = PPO.model_copy(update={"uncertainty_penalty": 1.0})
    with pytest.raises(ConfigError, match=r"uncertainty_penalty = 1\.0.*reward\.heads of 2 or more"):
        train_ppo(base, Start(), codec, RewardModel.on_base(base, 0.7), [PromptRecord("What?")], config, tmp_path)
