"""Learning-rate schedules, and where bfloat16 is used."""

from __future__ import annotations

import pytest
import torch

from training.fast.precision import autocast
from training.runs.schedule import warmup_then_cosine, warmup_then_line


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    """Of 100 steps with 10% warm-up: 1/11 at the first, 1 at the end of it, half in the middle of the rest."""
    factors = [warmup_then_cosine(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[4] == pytest.approx(5 / 11)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors == sorted(factors[:10]) + sorted(factors[10:], reverse=True)
    assert all(factor > 0 for factor in factors)


def test_a_single_step_without_warmup_takes_the_whole_rate() -> None:
    """A run of a single step uses the full learning rate."""
    assert warmup_then_cosine(0, 1, 0.0) == 1.0


def test_precision_is_what_was_asked_for() -> None:
    """Matrix products are in bfloat16 where requested, and in float32 otherwise."""
    device, a = torch.device("cpu"), torch.ones(2, 2)
    with autocast(device, "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with autocast(device, "float32"):
        assert (a @ a).dtype == torch.float32
    with autocast(device, "auto"):
        native = bool(torch.cpu._is_avx512_bf16_supported())
        assert (a @ a).dtype == (torch.bfloat16 if native else torch.float32)


def test_warmup_then_line() -> None:
    """With 2 of 10 steps of warm-up: a third, two thirds (each less the line's fall), then the line itself."""
    factors = [warmup_then_line(step, 10, 0.2) for step in range(10)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3 * 0.9, 0.8])
    assert factors[3:] == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert warmup_then_line(0, 1, 0.0) == 1.0
