"""Weights held in bfloat16: half the memory, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import nudge, tiny_decoder

from training.fast.frozen_layers import FrozenLinear, hold_narrow
from training.models.architectures import backbone_of
from training.models.load import load_causal_lm
from training.models.policy import PolicyWithValue
from training.models.reward import RewardModel

IDS = torch.tensor([[3, 5, 7, 11, 13, 17]])


@pytest.fixture(params=["gpt2", "llama", "gemma3_text", "falcon"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A tiny model saved in bfloat16, as most are published."""
    tiny_decoder(request.param).to(torch.bfloat16).save_pretrained(tmp_path)
    return str(tmp_path)


def _narrow(folder: str) -> Any:
    model = load_causal_lm(folder, "cpu")
    hold_narrow(model)
    return model


@torch.no_grad()
def test_a_narrow_model_is_the_same_model(folder: str) -> None:
    """Logits and digest are bit for bit those of the float32 model; most of its weights take half the memory."""
    wide, narrow = load_causal_lm(folder, "cpu"), _narrow(folder)
    assert torch.equal(narrow(IDS).logits, wide(IDS).logits)
    assert backbone_of(narrow).trunk_digest(4) == backbone_of(wide).trunk_digest(4)
    held = [layer for layer in narrow.modules() if isinstance(layer, FrozenLinear)]
    assert held
    assert all(layer.weight.dtype == torch.bfloat16 for layer in held)
    kept = {id(layer.weight) for layer in held}
    assert all(value.dtype == torch.float32 for value in narrow.parameters() if id(value) not in kept)


@torch.no_grad()
def test_products_in_bfloat16_are_the_same_too(folder: str) -> None:
    """Within autocast, narrow and wide weights give the same logits bit for bit."""
    wide, narrow = load_causal_lm(folder, "cpu"), _narrow(folder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for layer in narrow.modules():
            if isinstance(layer, FrozenLinear):
                layer.weight.requires_grad_()  # which keeps it off the packed kernels of a CPU
        assert torch.equal(narrow(IDS).logits, wide(IDS).logits)


def test_what_is_trained_on_a_narrow_base_is_wide(folder: str, tmp_path: Path) -> None:
    """Policy and reward model train float32 copies, and a saved policy is a version of the float32 base too."""
    narrow, wide = _narrow(folder), load_causal_lm(folder, "cpu")
    policy, reward_model = PolicyWithValue(narrow, trainable_layers=2), RewardModel(narrow, 1)
    for module in (policy, reward_model):
        assert {value.dtype for value in module.parameters()} == {torch.float32}
    assert not any(isinstance(module, FrozenLinear) for module in policy.top.modules())
    nudge(policy.top.parameters())
    policy.language_model.save_pretrained(tmp_path / "policy")
    reward_model.save(tmp_path / "reward")
    saved = load_causal_lm(str(tmp_path / "policy"), "cpu")
    later = PolicyWithValue(wide, saved, trainable_layers=2)
    for ours, theirs in zip(policy.top.parameters(), later.top.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    RewardModel.load(tmp_path / "reward", wide)


def test_weights_that_need_float32_keep_it() -> None:
    """Where bfloat16 would round a weight, the layer stays as it is."""
    model = tiny_decoder("llama").requires_grad_(requires_grad=False)
    hold_narrow(model)
    assert not any(isinstance(layer, FrozenLinear) for layer in model.modules())
