"""Decoding with and without packed weights, in float32, bfloat16 and int8, on a model wide enough for it to matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2
from transformers import GPT2Config, GPT2LMHeadModel

from training.config import SamplingConfig
from training.fast.gpt2_decoder import GPT2Decoder
from training.fast.gpt2_weights import GPT2Weights
from training.fast.packed_linear import PackedLinear
from training.fast.precision import SamplingPrecision
from training.fast.quantized_linear import QuantizedLinear, quantizing_works
from training.models.text import pad_left
from training.sampling.decoders import weights_for
from training.sampling.sampler import Sampler

needs_int8 = pytest.mark.skipif(not quantizing_works(), reason="this CPU has no fast 8-bit products")
PROMPTS = [[3], [5, 1, 4, 1, 5, 9, 2, 6], [7, 7, 7], [11, 2, 30, 8, 21]]
GREEDY = SamplingConfig(top_k=1, max_new_tokens=12)
WHOLE = SamplingConfig(top_k=0, top_p=1.0, temperature=0.7, max_new_tokens=12)


def _wide_gpt2() -> Any:
    """A model of GPT-2 small's width, with fewer layers and a vocabulary large enough for drawing by blocks."""
    config = GPT2Config(
        vocab_size=5003, n_positions=64, n_layer=2, initializer_range=0.1, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("packed", [True, False])
def test_greedy_equals_generate_at_full_width(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, answers equal transformers.generate token for token, with and without packed weights."""
    if not packed:
        monkeypatch.setattr("training.fast.gpt2_weights.packing_works", lambda _: False)
    model = _wide_gpt2()
    ids, mask = pad_left(PROMPTS, 1)
    expected = model.generate(
        ids,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=12,
        pad_token_id=1,
        suppress_tokens=[1],
    )[:, ids.shape[1] :]
    found = Sampler(model, end_ids=(0,), pad_id=1, precision="float32").sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert found.tokens.tolist() == expected.tolist()


def test_bfloat16_sees_nearly_the_same_distribution() -> None:
    """Log-probs in the two formats differ by hundredths, even if all logits share a large offset."""
    model = _wide_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(0.5)
        model.lm_head.weight += 0.25  # a shift of about 100 in every logit
    ids, mask = pad_left(PROMPTS, 1)
    with torch.no_grad():
        exact, rounded = (
            GPT2Decoder(GPT2Weights(model, dtype), ids, mask, copies=1, new_tokens=2).logits.log_softmax(-1)
            for dtype in (torch.float32, torch.bfloat16)
        )
    assert float((exact - rounded).abs().max()) < 0.2
    assert float((exact - rounded).abs().mean()) < 0.03


@needs_int8
def test_int8_sees_nearly_the_same_distribution() -> None:
    """It still differs from float32 by hundredths of a nat after several decoded tokens."""
    model = _wide_gpt2()
    ids, mask = pad_left(PROMPTS, 1)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.2)
        exact, rounded = (
            GPT2Decoder(GPT2Weights(model, dtype), ids, mask, copies=1, new_tokens=9)
            for dtype in (torch.float32, torch.int8)
        )
        for step in range(8):
            expected, found = exact.logits.log_softmax(-1), rounded.logits.log_softmax(-1)
            assert float((expected.exp() * (expected - found)).sum(-1).max()) < 0.02
            for decoder in (exact, rounded):
                decoder.advance(torch.arange(4) * 7 + step)


@needs_int8
def test_int8_is_for_plain_gpt2_on_hardware_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere int8 means `auto`."""
    model = _wide_gpt2()
    found = weights_for(model, "int8")
    assert found is not None
    assert isinstance(found.head, QuantizedLinear)
    monkeypatch.setattr("training.sampling.decoders.quantizing_works", lambda: False)
    fallen_back, usual = weights_for(model, "int8"), weights_for(model, "auto")
    assert fallen_back is not None
    assert usual is not None
    assert isinstance(fallen_back.head, PackedLinear)
    assert fallen_back.dtype == usual.dtype


@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("int8", marks=needs_int8)])
def test_a_sequence_doesnt_depend_on_its_batch_mates_in_any_format(precision: SamplingPrecision) -> None:
    """A prompt and seed give the same answer alone and alongside a duplicate."""
    sampler = Sampler(_wide_gpt2(), end_ids=(0,), pad_id=1, precision=precision)
    prompts = [prompt * 2 for prompt in PROMPTS]
    alone = [sampler.sample([prompt], WHOLE, seeds=[row]).answers()[0] for row, prompt in enumerate(prompts)]
    pairs = sampler.sample(prompts, WHOLE, seeds=[0, 9, 1, 8, 2, 7, 3, 6], answers_per_prompt=2)
    assert pairs.answers()[::2] == alone


def test_a_fused_optimizer_step_reaches_the_decoder() -> None:
    """Weights in training are repacked before each sampling."""
    model = tiny_gpt2(seed=3)
    sampler = Sampler(model, end_ids=(EOS,), pad_id=PAD)
    sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(torch.tensor([[1, 2, 3]])).logits[..., 5].sum().backward()
    optimizer.step()
    fresh = Sampler(model, end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4).answers() == fresh.answers()


def test_weights_follow_replaced_layers_and_frozen_changes() -> None:
    """A replaced layer and a frozen one changed in place are both picked up."""
    model = tiny_gpt2(seed=3).requires_grad_(requires_grad=False)
    sampler = Sampler(model, end_ids=(EOS,), pad_id=PAD)
    before = sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4).answers()
    model.transformer.h[1] = tiny_gpt2(seed=8).requires_grad_(requires_grad=False).transformer.h[1]
    nudge(model.transformer.h[2].parameters(), scale=0.3)
    after = sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4).answers()
    assert after != before
    assert after == Sampler(model, end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4).answers()


def test_an_activation_of_another_kind_is_used() -> None:
    """A GPT-2 with ReLU decodes as in transformers."""
    config = GPT2Config(
        vocab_size=40, n_positions=64, n_embd=32, n_layer=2, n_head=2, activation_function="relu", initializer_range=0.2
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    ids, mask = pad_left(PROMPTS, PAD)
    with torch.no_grad():
        ours = GPT2Decoder(GPT2Weights(model, torch.float32), ids, mask, copies=1, new_tokens=2).logits
        theirs = model(torch.tensor([PROMPTS[1]])).logits[0, -1]
    torch.testing.assert_close(ours[1], theirs, atol=1e-4, rtol=1e-4)
