"""Packed weights: equal to `F.linear`, reloaded when they change, with a fallback where packing fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.fast.packed_linear import PackedLinear, packing_works

pytestmark = pytest.mark.skipif(not packing_works(torch.float32), reason="this PyTorch doesn't pack weights")


def _weights() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(5, 32), (48, 32), (48,)]
    inputs, weight, bias = (torch.randn(size, generator=generator) for size in sizes)
    return inputs, weight, bias


@pytest.mark.parametrize("packed", [True, False])
def test_the_product_is_that_of_linear(packed: bool) -> None:
    """Outputs equal `F.linear`'s with and without bias, GELU, and the transposed storage of GPT-2's checkpoints."""
    inputs, weight, bias = _weights()
    expected = F.linear(inputs, weight, bias)
    layer = PackedLinear(torch.float32, packed=packed)
    layer.load(weight, bias)
    torch.testing.assert_close(layer(inputs), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(inputs, gelu=True), F.gelu(expected, approximate="tanh"), atol=1e-5, rtol=1e-5)
    layer.load(weight.t().contiguous(), transposed=True)
    torch.testing.assert_close(layer(inputs), F.linear(inputs, weight), atol=1e-5, rtol=1e-5)


def test_what_isnt_contiguous_is_read_rightly() -> None:
    """A strided weight and bias, which the operators themselves would silently misread, give correct results."""
    inputs, weight, _ = _weights()
    strided, bias = torch.stack([weight, weight], dim=2)[:, :, 1], weight[:, 3]
    layer = PackedLinear(torch.float32, packed=True)
    layer.load(strided, bias)
    torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, bias.contiguous()), atol=1e-5, rtol=1e-5)


def test_a_row_doesnt_depend_on_the_rows_beside_it() -> None:
    """A row's result is bitwise identical alone and in a batch."""
    inputs, weight, bias = _weights()
    layer = PackedLinear(torch.float32, packed=True)
    layer.load(weight, bias)
    assert torch.equal(layer(inputs)[:2], layer(inputs[:2].clone()))


def test_centring_shifts_all_outputs_alike() -> None:
    """Centring doesn't change the softmax of the outputs."""
    inputs, weight, _ = _weights()
    layer = PackedLinear(torch.float32, packed=True)
    layer.load(weight + 3.0, centred=True)
    torch.testing.assert_close(layer(inputs).softmax(-1), F.linear(inputs, weight + 3.0).softmax(-1))
    assert layer(inputs).mean(dim=-1).abs().max() < 1e-4


def test_changed_weights_are_taken_anew() -> None:
    """Trained weights are always reloaded, as fused optimizers bypass the version counter; frozen ones if it moves."""
    inputs, weight, _ = _weights()
    trained = torch.nn.Parameter(weight.clone())
    layer = PackedLinear(torch.float32, packed=True)
    layer.load(trained)
    optimizer = torch.optim.AdamW([trained], lr=0.1, fused=True)
    trained.grad = torch.ones_like(trained)
    optimizer.step()
    layer.load(trained)
    torch.testing.assert_close(layer(inputs), F.linear(inputs, trained.detach()), atol=1e-5, rtol=1e-5)
    frozen = weight.clone()
    layer.load(frozen)
    frozen.mul_(2)
    layer.load(frozen)
    torch.testing.assert_close(layer(inputs), F.linear(inputs, frozen), atol=1e-5, rtol=1e-5)


def test_frozen_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading unchanged weights does nothing; a different tensor with equal values counts as a change."""
    packed: list[int] = []
    real = PackedLinear.load.__globals__["_reorder"]

    def counted(weight: Tensor) -> Any:
        packed.append(1)
        return real(weight)

    monkeypatch.setattr("training.fast.packed_linear._reorder", counted)
    _, weight, bias = _weights()
    layer = PackedLinear(torch.float32, packed=True)
    for _ in range(3):
        layer.load(weight, bias)
    assert len(packed) == 1
    layer.load(weight.clone(), bias)
    assert len(packed) == 2


def test_packing_that_computes_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial product decides, so a PyTorch whose operators are gone or changed falls back to `F.linear`."""
    packing_works.cache_clear()
    monkeypatch.setattr("training.fast.packed_linear._reorder", lambda weight: weight.flip(0))
    try:
        assert not packing_works(torch.float32)
    finally:
        packing_works.cache_clear()
