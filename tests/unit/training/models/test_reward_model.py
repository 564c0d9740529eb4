"""The reward model reads the last real token, uses the base's layers, and survives saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2, tiny_rotary

from training.errors import ModelError
from training.models.load import load_causal_lm
from training.models.policy import PolicyWithValue
from training.models.probe import Probe, Site
from training.models.reward import RewardModel
from training.models.sequences import last_real_token, sequences_of
from training.models.text import TextCodec, pad_left, pad_right

SEQUENCES = [[1, 2, 3, EOS], [4, 5, 6, 7, 8, 9, EOS], [1, EOS]]
Make = Callable[..., Any]


@pytest.fixture(params=[tiny_gpt2, tiny_rotary], ids=["gpt2", "llama"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a tiny model, with learned positions or with rotary ones."""
    made: Make = request.param
    return made


def _trained(base: object) -> RewardModel:
    model = RewardModel.on_base(base, 0.7)
    nudge(model.parameters())
    return model


def test_a_fresh_reward_model_scores_everything_even(make: Make) -> None:
    """The head starts at zero, so every score is exactly 0."""
    model = RewardModel.on_base(make(), 0.7)
    assert model.depth == 3
    assert torch.equal(model.score(*pad_right(SEQUENCES, PAD)), torch.zeros(3))


def test_the_score_is_the_same_alone_padded_left_and_padded_right(make: Make) -> None:
    """Padding on either side has no influence on a score."""
    model = _trained(make())
    alone = torch.cat([model.score(*pad_right([sequence], PAD)) for sequence in SEQUENCES])
    assert alone.std() > 1e-3
    torch.testing.assert_close(model.score(*pad_right(SEQUENCES, PAD)), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.score(*pad_left(SEQUENCES, PAD)), alone, rtol=0, atol=1e-5)


def test_the_score_is_read_at_the_end_of_the_sequence(make: Make) -> None:
    """The score is the head on top layers and trunk at the end of text and the token before, and nothing else."""
    model = _trained(make())
    ids, mask = pad_right(SEQUENCES, PAD)
    context = model.base.context(mask)
    trunk = model.trunk(ids, context)
    hidden, plain = model.top(trunk, context), torch.nn.LayerNorm(32, elementwise_affine=False)(trunk)
    ends = [(0, 3), (1, 6), (2, 1)]
    read = [torch.cat([part[row, end - back] for part in (hidden, plain) for back in (0, 1)]) for row, end in ends]
    by_hand = model.head(torch.stack(read)).squeeze(-1)
    torch.testing.assert_close(model.score(ids, mask), by_hand, rtol=0, atol=1e-6)


def test_last_real_token() -> None:
    """The last True of each row, for padding on the right, on the left, and on neither side."""
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
    assert last_real_token(mask).tolist() == [1, 3, 3, 2]


def test_only_its_own_layers_are_trained(make: Make) -> None:
    """One of four layers, the norm and the head are its own; the base's weights stay frozen and untouched."""
    base = make()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = _trained(base)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"top", "head"}
    assert len(model.top.blocks) == 1
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_it_comes_back_from_disk_bit_for_bit(make: Make, tmp_path: Path) -> None:
    """Scores, scale and temperature of a loaded model equal those of the saved one."""
    base = make()
    model = _trained(base)
    model.temperature = 0.8
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path, base)
    ids, mask = pad_right(SEQUENCES, PAD)
    assert torch.equal(loaded.score(ids, mask), model.score(ids, mask))
    assert loaded.temperature == 0.8


def test_it_only_loads_over_its_own_base(make: Make, tmp_path: Path) -> None:
    """Another base, whether in weights or depth, is refused."""
    _trained(make()).save(tmp_path)
    for other in (make(seed=5), make(n_layer=3)):
        with pytest.raises(ModelError, match="another base"):
            RewardModel.load(tmp_path, other)


def test_a_policy_beside_it_does_not_change_its_base(make: Make, tmp_path: Path) -> None:
    """A reward model saved before PPO loads over the base after the policy was trained."""
    base = make()
    _trained(base).save(tmp_path)
    nudge(PolicyWithValue(base).parameters())
    RewardModel.load(tmp_path, base)


@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense"])
def test_a_damaged_reward_model_is_a_model_error(tmp_path: Path, damage: str) -> None:
    """A missing folder, truncated weights and a damaged configuration each give one clear error."""
    folder = tmp_path / "reward"
    base = tiny_gpt2()
    if damage != "missing":
        _trained(base).save(folder)
    if damage == "truncated":
        weights = folder / "reward_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:500])
    if damage == "nonsense":
        (folder / "reward_config.json").write_text('{"n_layers": "many"}')
    with pytest.raises(ModelError, match="can't be loaded"):
        RewardModel.load(folder, base)


def test_texts_are_scored_in_order_whatever_the_batch(tiny_model_dir: Path) -> None:
    """Scores come back in the order given, and equal those of token ids assembled by hand."""
    codec = TextCodec.load(str(tiny_model_dir))
    model = _trained(load_causal_lm(str(tiny_model_dir), "cpu"))
    prompts = ["How do I boil an egg?", "What is tea?", "What is tea?"]
    answers = ["Put it into boiling water for eight minutes.", "Leaves.", "Leaves in hot water."]
    by_hand = [
        model.score(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
        for ids in (
            codec.encode_prompts([p])[0] + codec.encode_answers([a])[0] for p, a in zip(prompts, answers, strict=True)
        )
    ]
    for batch in (1, 2, 32):
        scores = model.score_texts(codec, prompts, answers, batch=batch)
        torch.testing.assert_close(scores, torch.cat(by_hand), rtol=0, atol=1e-5)


def test_what_the_model_cannot_read_is_cut_from_the_prompt(tiny_model_dir: Path) -> None:
    """With room for 8 tokens the answer stays whole and the prompt's end stays."""
    codec = TextCodec.load(str(tiny_model_dir))
    [(prompt, answer)] = sequences_of(codec, ["What is tea? " * 9], ["Leaves"], 8)
    assert answer == codec.encode_answers(["Leaves"])[0]
    assert prompt == codec.encode_prompts(["What is tea? " * 9])[0][-(8 - len(answer)) :]


def test_its_own_layers_run_once_and_not_for_the_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges read the probe alone: their scores don't depend on the own layers, which run for the ensemble only."""
    base = tiny_rotary(n_layer=3)
    probe = Probe([Site(2, "mean")], base.config.hidden_size, heads=2, judges=1)
    nudge([probe.weight, probe.center], seed=5)
    model, alone = RewardModel(base, 1, probe=probe), RewardModel(base, 0, probe=probe)
    nudge(model.parameters(), seed=6)
    runs, top_scores = [], model.top_scores
    monkeypatch.setattr(model, "top_scores", lambda *given: runs.append(1) or top_scores(*given))
    ids, mask = pad_right([[3, 1, 4, 1, 5, EOS], [9, 2, 6, EOS]], PAD)
    scores, judged = model.score_and_judge(ids, mask, torch.tensor([2, 1]))
    assert len(runs) == 1
    plain, same = alone.score_and_judge(ids, mask, torch.tensor([2, 1]))
    assert torch.equal(judged, same)
    assert not torch.equal(scores, plain)


def test_preference_probability_is_calibrated_log_odds() -> None:
    """Even scores give one half; ln 3 times the temperature gives three quarters; extremes don't overflow."""
    model = RewardModel.on_base(tiny_gpt2(), 0.7)
    model.temperature = 2.0
    assert model.preference_probability(0.0) == 0.5
    assert model.preference_probability(2.0 * 1.0986122886681098) == pytest.approx(0.75)
    assert model.preference_probability(-4000.0) == pytest.approx(0.0)
