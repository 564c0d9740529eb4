"""What makes training fast and must not change what is learned: the packed head, one-kernel GELU, groups, room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_models import tiny_gpt2

from training.activation_store import activation_room
from training.frozen_head import FrozenHead
from training.fused_gelu import fuse_gelu
from training.length_groups import length_groups
from training.precision import autocast, compute_dtype, full_precision


def test_the_frozen_head_gives_logits_and_their_gradient_in_float32() -> None:
    """The same as `F.linear` both ways, also where bfloat16 is the current format."""
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(70, 32, generator=generator), torch.randn(5, 32, generator=generator)
    ours, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = FrozenHead(weight)(ours)
    expected = F.linear(theirs, weight)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    logits.logsumexp(-1).sum().backward()
    expected.logsumexp(-1).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_one_kernel_gelu_is_the_same_function() -> None:
    """Every block's activation is exchanged, and the logits stay the same but for rounding."""
    model, ids = tiny_gpt2(), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        before = model(ids).logits
        fuse_gelu(model)
        after = model(ids).logits
    assert all(isinstance(block.mlp.act, torch.nn.GELU) for block in model.transformer.h)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_groups_of_like_length_are_made_where_they_pay() -> None:
    """Splitting 4 sequences of 10 from 2 of 100 spares 360 tokens of padding; 4 of 98 aren't worth a pass."""
    assert length_groups([100, 10, 10, 100, 10, 10], worth=192) == [[1, 2, 4, 5], [0, 3]]
    assert length_groups([100, 98, 98, 100, 98, 98], worth=192) == [[1, 2, 4, 5, 0, 3]]
    assert length_groups([7], worth=1) == [[0]]
    assert length_groups([]) == []
    lengths = [3, 50, 20, 21, 22, 90, 91, 5, 4]
    assert sorted(index for group in length_groups(lengths, worth=20) for index in group) == list(range(9))


def test_activations_beyond_the_budget_lie_in_a_nameless_file(tmp_path: Path) -> None:
    """A quarter of a MiB stays in memory; two against a budget of one go into a file that has no name any more."""
    small = activation_room(1024, 64, torch.float32, memory_mb=1, folder=tmp_path)
    large = activation_room(8192, 64, torch.float32, memory_mb=1, folder=tmp_path / "new")
    assert small.shape == (1024, 64)
    assert large.shape == (8192, 64)
    large.fill_(2.0)
    assert float(large.sum()) == 2.0 * 8192 * 64
    assert list((tmp_path / "new").iterdir()) == []
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert f"{tmp_path / 'new'}/activations-" in mapped.read_text()
    assert activation_room(8192, 64, torch.float32, memory_mb=1, folder=None).shape == (8192, 64)


def test_narrow_models_stay_in_float32() -> None:
    """With `auto` a model narrower than 512 never computes in bfloat16; what is asked for is done."""
    cpu = torch.device("cpu")
    assert compute_dtype(cpu, "auto", 192) == torch.float32
    assert compute_dtype(cpu, "bfloat16", 192) == torch.bfloat16
    assert compute_dtype(cpu, "float32", 768) == torch.float32
    assert compute_dtype(cpu, "auto", 768) == compute_dtype(cpu, "auto")


@pytest.mark.parametrize("enabled", [True, False])
def test_full_precision_holds_within_bfloat16(enabled: bool) -> None:
    """Products of float32 tensors come out in float32 again."""
    with autocast(torch.device("cpu"), "bfloat16" if enabled else "float32"):
        outer = torch.ones(2, 2) @ torch.ones(2, 2)
        with full_precision(torch.device("cpu")):
            inner = torch.ones(2, 2) @ torch.ones(2, 2)
    assert outer.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert inner.dtype == torch.float32
