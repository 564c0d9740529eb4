"""The ensemble: models that left out different pairs, their uncertainty, and judges that learned from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2

from training.config import PPOConfig, SamplingConfig
from training.data.types import Preference, PromptRecord
from training.errors import ConfigError
from training.models.load import load_causal_lm
from training.models.probe import Probe, Site
from training.models.reward import RewardModel
from training.models.text import TextCodec, pad_left, pad_right
from training.ppo.train import train_ppo
from training.ppo.trainer import Start
from training.reward.train import jackknife_scale

SEQUENCES = [[1, 2, 3, EOS], [4, 5, 6, 7, 8, 9, EOS], [1, EOS]]
STARTS = torch.tensor([1, 2, 0])
PAIRS = [Preference(f"What is {n}?", f"hot tea {n}", f"hot egg {n}") for n in range(40)]
SITES = (Site(1, "mean"), Site(3, "last"))
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


def _with_probe(base: Any, own_layers: int = 0, heads: int = 3, judges: int = 2) -> RewardModel:
    probe = Probe(SITES, 32, heads, judges)
    nudge(probe.parameters())
    model = RewardModel(base, own_layers, 1, probe)
    if own_layers:
        nudge(model.head.parameters())
    return model


def test_the_probe_reads_the_answer_by_hand() -> None:
    """The mean is over the answer's tokens after the prompt's last, the other site the end of text, each normalised."""
    model = _with_probe(tiny_gpt2())
    ids, mask = pad_right(SEQUENCES, PAD)
    found = model.base.activations(ids, model.base.context(mask), (1, 3))
    plain = torch.nn.LayerNorm(32, elementwise_affine=False)
    assert model.probe is not None
    for row, (start, tokens) in enumerate(zip(STARTS.tolist(), SEQUENCES, strict=True)):
        end = len(tokens) - 1
        read = torch.cat([plain(found[1][row, start + 1 : end + 1]).mean(dim=0), plain(found[3][row, end])])
        by_hand = (read - model.probe.center) @ model.probe.weight.T
        torch.testing.assert_close(model.score(ids, mask, STARTS)[row], by_hand[:3].mean(), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            model.score_and_judge(ids, mask, STARTS)[1][row], by_hand[3:].mean(), rtol=0, atol=1e-5
        )
        error = model.uncertainty(ids, mask, STARTS)[row]
        torch.testing.assert_close(error, by_hand[:3].std(), rtol=0, atol=1e-5)


def test_layers_of_its_own_have_no_part_in_the_judges_scores() -> None:
    """They steer training, so the judges are the probes alone, with and without such layers."""
    base = tiny_gpt2()
    plain, tuned = _with_probe(base), _with_probe(base, own_layers=1)
    ids, mask = pad_right(SEQUENCES, PAD)
    assert torch.equal(plain.score_and_judge(ids, mask, STARTS)[1], tuned.score_and_judge(ids, mask, STARTS)[1])
    assert not torch.allclose(plain.score(ids, mask, STARTS), tuned.score(ids, mask, STARTS), atol=1e-4)


@pytest.mark.parametrize("own_layers", [0, 1])
def test_padding_and_disk_change_nothing(tmp_path: Path, own_layers: int) -> None:
    """Scores are the same padded on the left, and after saving and loading, with and without layers of its own."""
    base = tiny_gpt2()
    model = _with_probe(base, own_layers)
    model.uncertainty_scale = 1.5
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path, base)
    assert (loaded.heads, loaded.judges, loaded.own_layers) == (3, 2, own_layers)
    ids, mask = pad_right(SEQUENCES, PAD)
    left_ids, left_mask = pad_left(SEQUENCES, PAD)
    shifted = STARTS + ids.shape[1] - mask.sum(dim=1)
    scores = model.score(ids, mask, STARTS)
    assert scores.std() > 1e-3
    assert torch.equal(loaded.score(ids, mask, STARTS), scores)
    assert torch.equal(loaded.uncertainty(ids, mask, STARTS), model.uncertainty(ids, mask, STARTS))
    torch.testing.assert_close(model.score(left_ids, left_mask, shifted), scores, rtol=0, atol=1e-5)


def test_the_score_is_the_mean_less_the_penalised_error() -> None:
    """With a penalty of 2, two standard errors are subtracted; a probe can't do without knowing where prompts end."""
    model = _with_probe(tiny_gpt2())
    ids, mask = pad_right(SEQUENCES, PAD)
    plain, error = model.score(ids, mask, STARTS), model.uncertainty(ids, mask, STARTS)
    model.uncertainty_penalty = 2.0
    torch.testing.assert_close(model.score(ids, mask, STARTS), plain - 2 * error)
    with pytest.raises(ValueError, match="where the prompts end"):
        model.score(ids, mask)


def test_the_jackknife_by_hand() -> None:
    """The means of 0, 1, 5 without one of them are 3, 2.5, 0.5: scaled, they give the mean's standard error."""
    values = torch.tensor([0.0, 1.0, 5.0])
    without = torch.tensor([3.0, 2.5, 0.5])
    assert float(jackknife_scale(3) * without.std()) == pytest.approx(float(values.std() / 3**0.5))


def test_a_model_without_judges_judges_itself() -> None:
    """What an older version saved has no judges: it judges by its own scores."""
    model = RewardModel.on_base(tiny_gpt2(), 0.7, heads=2)
    nudge(model.parameters())
    ids, mask = pad_right(SEQUENCES, PAD)
    assert (model.judges, model.heads) == (0, 2)
    assert torch.equal(*model.score_and_judge(ids, mask))


def test_ppo_takes_the_uncertainty_off(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The same answers score lower by the penalised deviation; the evaluation doesn't apply the penalty."""
    prompts = [PromptRecord(pair.prompt) for pair in PAIRS]

    def run(penalty: float) -> Any:
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        model = _with_probe(base, heads=4)
        config = PPO.model_copy(update={"uncertainty_penalty": penalty, "learning_rate": 1e-12})
        report = train_ppo(base, Start(), codec, model, prompts, config, tmp_path / str(penalty))
        assert model.uncertainty_penalty == 0.0
        return report

    plain, careful = run(0.0), run(1.0)
    assert careful.curve[0].score < plain.curve[0].score
    assert careful.win_rate_vs_base == plain.win_rate_vs_base


def test_a_single_model_knows_no_uncertainty(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """An uncertainty penalty is rejected for a reward model with one head."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    config = PPO.model_copy(update={"uncertainty_penalty": 1.0})
    with pytest.raises(ConfigError, match=r"uncertainty_penalty = 1\.0"):
        train_ppo(base, Start(), codec, RewardModel.on_base(base, 0.7), [PromptRecord("What?")], config, tmp_path)
