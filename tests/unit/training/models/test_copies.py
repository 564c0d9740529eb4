"""Copies that share weights: what a trainer does to them leaves the originals unchanged."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import nudge, tiny_gpt2

from training.fast.fused_gelu import fuse_gelu
from training.models.copies import frozen_copies, own_parameters
from training.models.reward import RewardModel


def _kinds(model: Any) -> list[str]:
    return [type(module).__name__ for module in model.modules()]


def test_a_copy_shares_memory_and_is_frozen() -> None:
    """Every parameter shares the original's memory and has no gradient; the originals keep theirs."""
    model = tiny_gpt2().requires_grad_()
    (copied,) = frozen_copies(model)
    originals = dict(model.named_parameters())
    for name, value in copied.named_parameters():
        assert value.data_ptr() == originals[name].data_ptr()
        assert not value.requires_grad
    assert all(value.requires_grad for value in originals.values())
    assert copied.lm_head.weight is copied.transformer.wte.weight


def test_modules_of_a_copy_are_its_own() -> None:
    """Replacing an activation in the copy leaves the original's in place."""
    model = tiny_gpt2()
    before = _kinds(model)
    (copied,) = frozen_copies(model)
    fuse_gelu(copied)
    assert _kinds(model) == before
    assert _kinds(copied) != before


def test_models_refer_to_each_others_copies() -> None:
    """A reward model's copy uses the copy of its base."""
    base = tiny_gpt2()
    copied, reward_model = frozen_copies(base, RewardModel.on_base(base, 0.7))
    assert reward_model.base.model is copied


def test_own_parameters_leave_the_original_alone() -> None:
    """Training a copy that has its own weights doesn't change the original."""
    model = tiny_gpt2()
    before = model.transformer.h[2].mlp.c_proj.weight.clone()
    (copied,) = frozen_copies(model)
    block = own_parameters(copied.transformer.h[2])
    assert all(value.requires_grad for value in block.parameters())
    nudge(block.parameters())
    assert torch.equal(model.transformer.h[2].mlp.c_proj.weight, before)
    assert not torch.equal(block.mlp.c_proj.weight, before)
