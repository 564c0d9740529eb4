"""8-bit products: close to `F.linear`, independent per row, with a fallback where the hardware lacks support."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.fast.quantized_linear import QuantizedLinear, quantizing_works

pytestmark = pytest.mark.skipif(not quantizing_works(), reason="this CPU has no fast 8-bit products")


def _weights() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(5, 64), (48, 64), (48,)]
    inputs, weight, bias = (torch.randn(size, generator=generator) for size in sizes)
    return inputs, weight, bias


def _loaded(weight: Tensor, bias: Tensor | None = None, **options: bool) -> QuantizedLinear:
    layer = QuantizedLinear()
    layer.load(weight, bias, **options)
    return layer


def test_whole_numbers_come_out_exactly() -> None:
    """Rows and outputs whose largest integer is 127 need no rounding, so the product is exact."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight = (torch.randint(-127, 128, (rows, 64), generator=generator).float() for rows in (3, 48))
    inputs[:, 0], weight[:, 5] = 127, -127
    torch.testing.assert_close(_loaded(weight)(inputs), F.linear(inputs, weight), atol=0.0, rtol=1e-6)


def test_the_product_is_nearly_that_of_linear() -> None:
    """Outputs are near `F.linear`'s with and without bias, GELU and transposed storage, for any leading dimensions."""
    inputs, weight, bias = _weights()
    expected = F.linear(inputs, weight, bias)
    layer = _loaded(weight, bias)
    assert (layer(inputs) - expected).abs().max() < 0.3  # of values around 8
    assert (layer(inputs, gelu=True) - F.gelu(expected, approximate="tanh")).abs().max() < 0.3
    turned = _loaded(weight.t().contiguous(), bias, transposed=True)
    assert torch.equal(turned(inputs), layer(inputs))
    assert torch.equal(layer(inputs.view(5, 1, 64)), layer(inputs).view(5, 1, 48))


def test_gelu_is_the_tanh_approximation() -> None:
    """On exact products, GELU equals PyTorch's up to float32 rounding."""
    inputs = torch.diag(torch.linspace(-8, 8, 16))
    found = _loaded(torch.eye(16), torch.zeros(16))(inputs, gelu=True)
    torch.testing.assert_close(found, F.gelu(inputs, approximate="tanh"), atol=1e-6, rtol=1e-5)


def test_large_rows_dont_coarsen_small_ones() -> None:
    """Each row and each output has its own scale, and a row of zeros works."""
    inputs, weight, bias = _weights()
    sizes, scales = torch.tensor([[1e-6], [1.0], [0.0], [1e6], [3.0]]), torch.logspace(-3, 3, 48)
    found = _loaded(weight * scales[:, None])(inputs * sizes) / scales
    torch.testing.assert_close(found, _loaded(weight)(inputs) * sizes, atol=1e-9, rtol=1e-4)
    assert torch.equal(_loaded(weight, bias)(torch.zeros(1, 64))[0], bias)


def test_a_row_doesnt_depend_on_the_rows_beside_it() -> None:
    """A row's result is bitwise identical alone and in batches of any size."""
    inputs, weight, bias = _weights()
    layer = _loaded(weight, bias)
    whole = layer(inputs.repeat(40, 1))
    assert torch.equal(layer(inputs[:1]), whole[:1])
    assert torch.equal(layer(inputs[:3]), whole[:3])
    assert torch.equal(layer(inputs), whole[-5:])


def test_centring_shifts_all_outputs_alike() -> None:
    """Centring keeps an offset that all outputs share from using up the eight bits."""
    inputs, weight, _ = _weights()
    found = _loaded(weight + 100.0, centred=True)(inputs).log_softmax(-1)
    assert (found - F.linear(inputs, weight).log_softmax(-1)).abs().max() < 0.3


def test_what_isnt_a_number_stays_none() -> None:
    """NaN isn't hidden by rounding, and other rows aren't affected."""
    inputs, weight, bias = _weights()
    broken = inputs.clone()
    broken[1, 3] = torch.nan
    found = _loaded(weight, bias)(broken)
    assert found[1].isnan().all()
    assert torch.equal(found[2:], _loaded(weight, bias)(inputs)[2:])


def test_changed_weights_are_taken_anew() -> None:
    """Frozen weights are packed once; after an in-place change the new ones are used."""
    inputs, weight, bias = _weights()
    layer = _loaded(weight, bias)
    before = layer._weight
    layer.load(weight, bias)
    assert layer._weight is before
    weight.mul_(-1)
    layer.load(weight, bias)
    assert (layer(inputs) - F.linear(inputs, weight, bias)).abs().max() < 0.3


def test_hardware_without_8_bit_products_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizing is off without VNNI and where the trial product is wrong."""
    with monkeypatch.context() as patch:
        patch.setattr("torch.cpu._is_vnni_supported", lambda: False)
        quantizing_works.cache_clear()
        assert not quantizing_works()
    with monkeypatch.context() as patch:
        patch.setattr("training.fast.quantized_linear._ZERO", 127)
        quantizing_works.cache_clear()
        assert not quantizing_works()
    quantizing_works.cache_clear()
    assert quantizing_works()
