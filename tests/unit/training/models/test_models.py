"""The policy uses the base's own lower layers and starts out equal to the base."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import nudge, tiny_gpt2, tiny_rotary

from training.config import SamplingConfig
from training.errors import ConfigError, ModelError
from training.models.architectures import backbone_of
from training.models.load import load_causal_lm, pick_device
from training.models.policy import PolicyWithValue, reward_layer_count, trainable_layer_count
from training.sampling.sampler import Sampler

IDS = torch.tensor([[3, 5, 7, 11, 13, 17], [2, 4, 6, 8, 10, 12]])
MASK = torch.ones_like(IDS, dtype=torch.bool)
Make = Callable[..., Any]


@pytest.fixture(params=[tiny_gpt2, tiny_rotary], ids=["gpt2", "llama"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a tiny model, with learned positions or with rotary ones."""
    made: Make = request.param
    return made


def _top_hidden(model: PolicyWithValue) -> tuple[torch.Tensor, torch.Tensor]:
    context = model.base.context(MASK)
    below = model.base.activations(IDS, context, [model.depth, model.base.n_layers])
    return model(below[model.depth], context), model.base.norm(below[model.base.n_layers])


@pytest.mark.parametrize(
    ("n_layers", "requested", "expected"),
    [(12, None, 8), (24, None, 8), (4, None, 3), (6, None, 4), (3, None, 2), (4, 1, 1), (4, 4, 4)],
)
def test_trainable_layers(n_layers: int, requested: int | None, expected: int) -> None:
    """The last 8, or all but the lowest third of a smaller model, or the requested number."""
    assert trainable_layer_count(n_layers, requested) == expected


def test_more_trainable_layers_than_layers_is_refused() -> None:
    """The error names the requested number and the model's."""
    with pytest.raises(ConfigError, match="got 5; expected at most 4"):
        trainable_layer_count(4, 5)


@pytest.mark.parametrize(
    ("n_layers", "share", "expected"), [(12, 0.7, 3), (4, 0.7, 1), (24, 0.7, 7), (10, 0.7, 3), (4, 1.0, 1), (4, 0.0, 4)]
)
def test_reward_layers(n_layers: int, share: float, expected: int) -> None:
    """30% of 12 layers are 3 (and not 2.999 of them), of 4 layers 1; there is always at least one to train."""
    assert reward_layer_count(n_layers, share) == expected


def test_a_fresh_policy_is_the_base(make: Make) -> None:
    """Before training, policy and reference agree exactly and every value is 0."""
    model = PolicyWithValue(make())
    policy, reference = _top_hidden(model)
    assert torch.equal(policy, reference)
    assert torch.equal(model.values(policy), torch.zeros(2, 6))


def test_only_top_layers_norm_and_value_head_are_trained(make: Make) -> None:
    """Of 4 layers the last 3, the final norm and the value head have gradients; embeddings and head don't."""
    base = make()
    model = PolicyWithValue(base)
    assert model.depth == 1
    assert all(value.requires_grad for value in model.parameters())
    trained = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert trained == {"top", "value_head"}
    inside = {name for name, value in model.language_model.named_parameters() if value.requires_grad}
    blocks = "transformer.h" if make is tiny_gpt2 else "model.layers"
    assert {".".join(name.split(".")[:3]) for name in inside if name.startswith(blocks)} == {
        f"{blocks}.{index}" for index in (1, 2, 3)
    }
    norm = "transformer.ln_f" if make is tiny_gpt2 else "model.norm"
    assert {name.rsplit(".", 1)[0] for name in inside if not name.startswith(blocks)} == {norm}
    assert not any(value.requires_grad for value in base.parameters())


def test_training_the_policy_leaves_the_base_alone(make: Make) -> None:
    """After a change of the policy's weights the reference still gives the base's hidden states."""
    base = make()
    untouched = copy.deepcopy(base)
    model = PolicyWithValue(base)
    nudge(model.parameters())
    policy, reference = _top_hidden(model)
    assert not torch.allclose(policy, reference)
    with torch.no_grad():
        for hidden, whole in ((reference, untouched), (policy, model.language_model)):
            torch.testing.assert_close(model.base.logits(hidden), whole(IDS).logits, rtol=0, atol=1e-5)


def test_a_later_version_shares_the_trunk_and_survives_saving(make: Make, tmp_path: Path) -> None:
    """A saved policy loads onto the same base and resumes, with the base's modules below."""
    base = make()
    first = PolicyWithValue(base)
    nudge(first.top.parameters())
    first.language_model.save_pretrained(tmp_path)
    second = PolicyWithValue(base, load_causal_lm(str(tmp_path), "cpu"))
    assert backbone_of(second.language_model).blocks[0] is backbone_of(base).blocks[0]
    assert second.language_model.lm_head is base.lm_head
    assert second.language_model.get_input_embeddings() is base.get_input_embeddings()
    torch.testing.assert_close(_top_hidden(second)[0], _top_hidden(first)[0], rtol=0, atol=0)


def test_a_policy_with_another_trunk_is_refused(make: Make) -> None:
    """A policy whose frozen part differs in a single module isn't a version of this base."""
    for part in (*backbone_of(make()).embeddings, None):
        policy = make()
        module = policy.get_submodule(part) if part else backbone_of(policy).blocks[0]
        nudge([*module.parameters(), *module.buffers()])
        with pytest.raises(ModelError, match="frozen layers differ"):
            PolicyWithValue(make(), policy)


def test_a_policy_of_another_depth_is_refused(make: Make) -> None:
    """A model of three layers isn't a version of one of four."""
    with pytest.raises(ModelError, match="got '3 layers'; expected 4 layers"):
        PolicyWithValue(make(), make(n_layer=3))


def test_a_policy_of_another_architecture_is_refused() -> None:
    """A Llama isn't a version of a GPT-2, whatever their sizes."""
    with pytest.raises(ModelError, match="frozen layers differ"):
        PolicyWithValue(tiny_gpt2(), tiny_rotary())


def test_a_model_that_cannot_be_trained_can_be_loaded_and_sampled(tmp_path: Path) -> None:
    """A mixture of experts can be sampled from; only training refuses it."""
    tiny_rotary("mixtral", num_local_experts=2).save_pretrained(tmp_path)
    model = load_causal_lm(str(tmp_path), "cpu")
    found = Sampler(model, end_ids=(39,), pad_id=39).sample(
        [[3, 4], [5]], SamplingConfig(max_new_tokens=4), seeds=[0, 1]
    )
    assert len(found) == 2
    with pytest.raises(ModelError, match="mixture of experts"):
        PolicyWithValue(model)


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    """A folder whose weights are only a pickle is refused, with what to do about it."""
    model = tiny_gpt2()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*safetensors.*save_pretrained"):
        load_causal_lm(str(tmp_path), "cpu")


def test_a_missing_model_is_a_model_error(tmp_path: Path) -> None:
    """A missing folder gives one clear error that names it."""
    with pytest.raises(ModelError, match="nowhere"):
        load_causal_lm(str(tmp_path / "nowhere"))


def test_a_damaged_model_is_a_model_error(tmp_path: Path) -> None:
    """Truncated weights give one clear error."""
    tiny_gpt2().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="can't be loaded"):
        load_causal_lm(str(tmp_path), "cpu")


def test_an_unknown_device_is_a_config_error() -> None:
    """A device that PyTorch doesn't know is named."""
    with pytest.raises(ConfigError, match="'abacus'"):
        pick_device("abacus")
