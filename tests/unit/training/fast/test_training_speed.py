"""Optimisations that must not change what is learned: head, frozen layers, attention, length groups, storage."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_models import tiny_gpt2

from training.fast import frozen_head, length_groups
from training.fast.frozen_head import FrozenHead
from training.fast.frozen_layers import FrozenLinear, pack_frozen
from training.fast.fused_gelu import fuse_gelu
from training.fast.gpt2_block import gpt2_block_at
from training.fast.packed_linear import packing_works
from training.fast.precision import autocast, compute_dtype, full_precision
from training.fast.short_attention import attend
from training.reward.activations import activation_room

HEAD_CASES = [(1.0, False, 6_000_000), (0.7, True, 6_000_000), (1.3, False, 3 * 70)]


@pytest.mark.parametrize(("temperature", "bias", "at_once"), HEAD_CASES)
def test_the_frozen_head_gives_log_probs_entropies_and_their_gradient(
    monkeypatch: pytest.MonkeyPatch, temperature: float, bias: bool, at_once: int
) -> None:
    """The head equals a softmax over all logits, for any temperature, with a bias, and a few tokens at a time."""
    monkeypatch.setattr(frozen_head, "_LOGITS_AT_ONCE", at_once)
    torch.manual_seed(0)
    output, states = torch.nn.Linear(32, 70, bias=bias).requires_grad_(requires_grad=False), torch.randn(8, 32)
    tokens, weights = torch.randint(70, (8,)), torch.randn(8)
    ours, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    head = FrozenHead(output)
    found = head.logprobs(ours, tokens, temperature)
    everything = (output(theirs) / temperature).log_softmax(-1)
    expected = everything[torch.arange(8), tokens]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)
    logprobs, entropies = head.logprobs_and_entropies(states, tokens, temperature)
    torch.testing.assert_close(logprobs, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropies, -(everything.exp() * everything).sum(-1).detach(), atol=1e-5, rtol=1e-5)


def test_the_frozen_head_is_exact_within_bfloat16() -> None:
    """Log-probs stay in float32, and the gradient is correct to bfloat16 precision."""
    torch.manual_seed(0)
    output, states = torch.nn.Linear(32, 70, bias=False).requires_grad_(requires_grad=False), torch.randn(5, 32)
    tokens = torch.randint(70, (5,))
    ours, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = FrozenHead(output).logprobs(ours, tokens)
    expected = output(theirs).log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=5e-3, rtol=2e-2)


def test_packed_frozen_layers_compute_the_same() -> None:
    """A packed block equals autocast in bfloat16; nothing changes in float32 or for trained layers."""
    model = tiny_gpt2(n_embd=64)
    fuse_gelu(model)
    model.transformer.h[:3].requires_grad_(requires_grad=False)
    packed, ids = copy.deepcopy(model), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    pack_frozen(packed.transformer.h)
    for block, is_frozen in zip(packed.transformer.h, (True, True, True, False), strict=True):
        assert isinstance(block.mlp.c_fc, FrozenLinear) == (is_frozen and packing_works(torch.bfloat16))
    assert list(packed.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(packed(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, expected = packed(ids).logits.float(), model(ids).logits.float()
    assert float((found - expected).abs().max()) < 0.05 * float(expected.std())


def test_a_copy_of_packed_layers_can_be_trained() -> None:
    """A base packed by one run serves the next: copies of its blocks get gradients, even in bfloat16."""
    model, ids = tiny_gpt2(n_embd=64).requires_grad_(requires_grad=False), torch.tensor([[1, 2, 3, 4]])
    fuse_gelu(model)
    pack_frozen(model.transformer.h)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = model(ids).logits.float()
    trained = copy.deepcopy(model)
    trained.transformer.h[2:].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = trained(ids).logits.float()
    torch.testing.assert_close(logits.detach(), before, atol=0.05 * float(before.std()), rtol=0)
    logits.logsumexp(-1).sum().backward()
    for name, value in trained.transformer.h[2:].named_parameters():
        assert value.grad is not None, name
        assert float(value.grad.abs().max()) > 0 or "ln" in name or "bias" in name, name


def test_a_gradient_goes_through_packed_frozen_layers() -> None:
    """If something below is trained, the layers compute as before and pass the gradient on."""
    model, states = tiny_gpt2(n_embd=64), torch.randn(2, 5, 64)
    model.requires_grad_(requires_grad=False)
    fuse_gelu(model)
    packed = copy.deepcopy(model)
    pack_frozen(packed.transformer.h)
    gradients = []
    for one in (model, packed):
        given = states.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            one.transformer.h[0](given).sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("length", [1, 7, 40])
def test_short_attention_is_causal_attention(length: int) -> None:
    """Output and gradient equal the fused attention's to bfloat16 precision."""
    torch.manual_seed(0)
    given = [torch.randn(2, 3, length, 16, dtype=torch.bfloat16) for _ in range(3)]
    ours = [part.clone().requires_grad_() for part in given]
    theirs = [part.float().requires_grad_() for part in given]
    found, _ = attend(None, *ours, attention_mask=None, scaling=0.3)
    expected = F.scaled_dot_product_attention(*theirs, is_causal=True, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
    found.float().square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.float(), other.grad, atol=0.1, rtol=0.1)


def test_a_block_at_two_places_is_the_whole_block_there() -> None:
    """Outputs and the gradients of all weights equal those of the whole block read at these places."""
    torch.manual_seed(0)
    block, states = tiny_gpt2().transformer.h[0], torch.randn(3, 9, 32)
    places = torch.tensor([[8, 7], [4, 3], [0, 0]])
    whole = block(states)[torch.arange(3)[:, None], places]
    weights = torch.randn_like(whole)
    (whole * weights).sum().backward()
    expected = {name: value.grad.clone() for name, value in block.named_parameters()}
    block.zero_grad()
    found = gpt2_block_at(block, states, places)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    (found * weights).sum().backward()
    for name, value in block.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], atol=1e-4, rtol=1e-4)


def test_one_kernel_gelu_is_the_same_function() -> None:
    """Every block's activation is replaced, and the logits stay the same up to rounding."""
    model, ids = tiny_gpt2(), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        before = model(ids).logits
        fuse_gelu(model)
        after = model(ids).logits
    assert all(isinstance(block.mlp.act, torch.nn.GELU) for block in model.transformer.h)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_groups_of_like_length_are_made_where_they_pay() -> None:
    """Splitting 4 sequences of 10 from 2 of 100 saves 360 tokens of padding; 4 of 98 aren't worth a pass."""
    assert length_groups([100, 10, 10, 100, 10, 10], worth=192) == [[1, 2, 4, 5], [0, 3]]
    assert length_groups([100, 98, 98, 100, 98, 98], worth=192) == [[1, 2, 4, 5, 0, 3]]
    assert length_groups([7], worth=1) == [[0]]
    assert length_groups([]) == []
    lengths = [3, 50, 20, 21, 22, 90, 91, 5, 4]
    assert sorted(index for group in length_groups(lengths, worth=20) for index in group) == list(range(9))


def test_activations_beyond_the_budget_lie_in_a_nameless_file(tmp_path: Path) -> None:
    """A quarter of a MiB stays in memory; two with a budget of one go into an unlinked file."""
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
    """With `auto`, a model narrower than 512 never computes in bfloat16; an explicit format is always used."""
    cpu = torch.device("cpu")
    assert compute_dtype(cpu, "auto", 192) == torch.float32
    assert compute_dtype(cpu, "bfloat16", 192) == torch.bfloat16
    assert compute_dtype(cpu, "float32", 768) == torch.float32
    assert compute_dtype(cpu, "auto", 768) == compute_dtype(cpu, "auto")


@pytest.mark.parametrize("enabled", [True, False])
def test_full_precision_holds_within_bfloat16(enabled: bool) -> None:
    """Within `full_precision`, products of float32 tensors are in float32."""
    with autocast(torch.device("cpu"), "bfloat16" if enabled else "float32"):
        outer = torch.ones(2, 2) @ torch.ones(2, 2)
        with full_precision(torch.device("cpu")):
            inner = torch.ones(2, 2) @ torch.ones(2, 2)
    assert outer.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert inner.dtype == torch.float32
