"""Sampling: equal to transformers when greedy, correct in distribution, and independent of the rest of the batch.

These tiny models are decoded by PyTorch; test_decoders.py shows that OpenVINO sees the same logits.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, tiny_gpt2
from torch import Tensor

from training.config import SamplingConfig
from training.errors import ConfigError, DataError, ModelError
from training.models.text import pad_left
from training.sampling.choose import choose_tokens, uniforms
from training.sampling.sampler import Sampler, Samples

PROMPTS = [[3], [5, 1, 4, 1, 5, 9, 2, 6], [7, 7, 7], [11, 2, 30, 8, 21]]
GREEDY = SamplingConfig(top_k=1, max_new_tokens=12)
WHOLE = SamplingConfig(top_k=0, top_p=1.0, temperature=0.7, max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> Any:
    """A tiny GPT-2 whose end token is likely enough for some answers to end early."""
    model = tiny_gpt2(seed=3)
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 1.5
    return model


@pytest.fixture
def sampler(model: Any) -> Sampler:
    """A sampler of the tiny GPT-2."""
    return Sampler(model, end_ids=(EOS,), pad_id=PAD)


def _same(left: Samples, right: Samples) -> bool:
    return left.answers() == right.answers() and torch.equal(left.ended, right.ended)


def _generate(model: Any) -> Tensor:
    """Greedy answers by transformers itself, which would emit the pad token where that is most likely."""
    ids, mask = pad_left(PROMPTS, PAD)
    found = model.generate(
        ids,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=EOS,
        pad_token_id=PAD,
        suppress_tokens=[PAD],
    )
    return found[:, ids.shape[1] :]


@pytest.mark.parametrize("seed", range(4))
def test_greedy_equals_generate(seed: int) -> None:
    """In a batch of several lengths, answers equal transformers.generate token for token."""
    model = tiny_gpt2(seed=seed)
    expected = _generate(model)
    found = Sampler(model, end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert found.tokens.tolist() == expected.tolist()
    assert found.ended.tolist() == [EOS in row for row in expected.tolist()]


def test_a_model_without_positions_reads_any_length() -> None:
    """A model with ALiBi attention gets no positions, and its prompts are never cut."""
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(1)
    config = BloomConfig(
        vocab_size=40, hidden_size=32, n_layer=2, n_head=2, bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD
    )
    model = BloomForCausalLM(config).eval()
    sampler = Sampler(model, end_ids=(EOS,), pad_id=PAD)
    found = sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert found.tokens.tolist() == _generate(model).tolist()
    assert sampler.truncated_prompts == 0


def test_a_model_without_a_cache_is_refused() -> None:
    """A recurrent model, which would read padding as text, is rejected with a clear error."""
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2)).eval()
    with pytest.raises(ModelError, match="no key-value cache"):
        Sampler(model, end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4)


def test_an_answer_doesnt_depend_on_its_batch_mates(sampler: Sampler) -> None:
    """In float32, a prompt and seed give the same answer alone, in a batch, in another order and beside a duplicate."""
    together = sampler.sample(PROMPTS, WHOLE, seeds=[10, 11, 12, 13])
    for row, prompt in enumerate(PROMPTS):
        alone = sampler.sample([prompt], WHOLE, seeds=[10 + row])
        assert alone.answers()[0] == together.answers()[row]
    turned = sampler.sample(PROMPTS[::-1], WHOLE, seeds=[13, 12, 11, 10])
    assert turned.answers()[::-1] == together.answers()
    pairs = sampler.sample(PROMPTS, WHOLE, seeds=[10, 90, 11, 91, 12, 92, 13, 93], answers_per_prompt=2)
    assert pairs.answers()[::2] == together.answers()
    assert pairs.answers()[1::2] != together.answers()


def test_batches_that_dont_fit_the_cache_change_nothing(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small batches give the same answers in the same order as one large batch."""
    seeds = list(range(8))
    whole = sampler.sample(PROMPTS, WHOLE, seeds=seeds, answers_per_prompt=2)
    monkeypatch.setattr("training.sampling.sampler._CACHE_BYTES", 1)
    assert _same(sampler.sample(PROMPTS, WHOLE, seeds=seeds, answers_per_prompt=2), whole)


def test_answers_end_at_the_end_of_text(sampler: Sampler) -> None:
    """The end token is the last real one, followed by padding; answers that never end have the maximum length."""
    found = sampler.sample(PROMPTS * 8, WHOLE, seeds=range(32))
    assert 0 < int(found.ended.sum()) < 32
    for row, (answer, ended) in enumerate(zip(found.answers(), found.ended.tolist(), strict=True)):
        assert (EOS in answer) == ended
        assert EOS not in answer[:-1]
        assert ended or len(answer) == WHOLE.max_new_tokens
        assert found.tokens[row, len(answer) :].eq(PAD).all()


def test_any_end_token_ends_an_answer(model: Any) -> None:
    """With several end tokens, the first of either is the last token; without any, every answer has full length."""
    ends = (EOS, 7)
    found = Sampler(model, end_ids=ends, pad_id=PAD).sample(PROMPTS * 8, WHOLE, seeds=range(32))
    last = {answer[-1] for answer, ended in zip(found.answers(), found.ended.tolist(), strict=True) if ended}
    assert last == set(ends)
    assert not any(token in ends for answer in found.answers() for token in answer[:-1])
    endless = Sampler(model, end_ids=(), pad_id=PAD).sample(PROMPTS * 8, WHOLE, seeds=range(32))
    assert not endless.ended.any()
    assert endless.mask.all()


def test_answers_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 tokens of answer to prompts that fill the rest of the model, in batches by memory, each in its place."""
    model = tiny_gpt2(positions=1024, n_layer=1)
    sampler = Sampler(model, end_ids=(), pad_id=PAD)
    prompts = [[(7 * token + row) % 37 for token in range(600 - row)] for row in range(2)]
    config = SamplingConfig(top_k=1, max_new_tokens=512)
    monkeypatch.setattr("training.sampling.sampler._CACHE_BYTES", 1024 * 2 * 32 * 4)  # for one of them at a time
    found = sampler.sample(prompts, config, seeds=[0] * 2)
    assert found.tokens.shape == (2, 512)
    assert sampler.truncated_prompts == 2
    assert found.answers()[1] == sampler.sample([prompts[1]], config, seeds=[0]).answers()[0]


def test_decoding_stops_when_all_answers_have_ended() -> None:
    """Decoding stops when all answers have ended, and progress is reported after each step."""
    always_ends = tiny_gpt2(seed=3)
    with torch.no_grad():
        always_ends.transformer.ln_f.bias.copy_(always_ends.lm_head.weight[EOS] * 100)
    told = []
    sampler = Sampler(always_ends, end_ids=(EOS,), pad_id=PAD)
    found = sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4, on_step=lambda done, of: told.append((done, of)))
    assert found.tokens.tolist() == [[EOS]] * 4
    assert told == [(4, 4)]


def test_the_pad_token_is_never_sampled() -> None:
    """The pad token is never sampled, even where it is the most likely, unless it is also the end token."""
    likes_pad = tiny_gpt2(seed=3)
    with torch.no_grad():
        likes_pad.transformer.ln_f.bias.copy_(likes_pad.lm_head.weight[PAD] * 100)
    for config in (GREEDY, WHOLE, SamplingConfig(max_new_tokens=12)):
        found = Sampler(likes_pad, end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, config, seeds=[0] * 4)
        assert not bool((found.tokens[found.mask] == PAD).any())
    ends = Sampler(likes_pad, end_ids=(PAD,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert ends.tokens.tolist() == [[PAD]] * 4
    assert bool(ends.mask.all())


def test_a_prompt_too_long_for_the_model_loses_its_beginning(sampler: Sampler) -> None:
    """With 64 positions and 12 new tokens, the last 52 tokens of the prompt are read, and the cut is counted."""
    long = [(7 * n) % 37 for n in range(100)]
    found = sampler.sample([long, [3]], GREEDY, seeds=[0, 0])
    assert sampler.truncated_prompts == 1
    assert found.answers()[0] == sampler.sample([long[-52:]], GREEDY, seeds=[0]).answers()[0]
    assert sampler.truncated_prompts == 1


def test_what_cant_be_sampled_is_an_error(sampler: Sampler) -> None:
    """Empty prompts, answers as long as the model's context and missing seeds are rejected; an empty batch is fine."""
    with pytest.raises(DataError, match="no tokens"):
        sampler.sample([[]], GREEDY, seeds=[0])
    with pytest.raises(ConfigError, match="64 positions"):
        sampler.sample([[1]], SamplingConfig(max_new_tokens=64), seeds=[0])
    with pytest.raises(ConfigError, match="seed"):
        sampler.sample([[1]], GREEDY, seeds=[0], answers_per_prompt=2)
    assert len(sampler.sample([], GREEDY, seeds=[])) == 0


def test_new_weights_are_used_at_once() -> None:
    """A sampler uses the model's current weights, so PPO samples from the current policy."""
    model = tiny_gpt2(seed=3)
    sampler = Sampler(model, end_ids=(EOS,), pad_id=PAD)
    before = sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4)
    with torch.no_grad():
        model.transformer.h[2].mlp.c_proj.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert not _same(sampler.sample(PROMPTS, GREEDY, seeds=[0] * 4), before)


def test_draws_follow_the_distribution() -> None:
    """Over evenly spaced uniform numbers, each token is drawn in proportion to its probability."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    logits = probabilities.log().expand(1000, 4)

    def shares(**settings: Any) -> list[float]:
        tokens = choose_tokens(logits, uniform, SamplingConfig(**settings), never=None)
        return [float((tokens == token).float().mean()) for token in range(4)]

    assert shares(top_k=0, top_p=1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.001)
    assert shares(top_k=2, top_p=1.0) == pytest.approx([0.625, 0.375, 0, 0], abs=0.001)
    assert shares(top_k=0, top_p=0.79) == pytest.approx([0.625, 0.375, 0, 0], abs=0.001)
    assert shares(top_k=0, top_p=0.81) == pytest.approx([0.526, 0.316, 0.158, 0], abs=0.001)
    # After top-k 3 the shares are 10/19, 6/19, 3/19, and the first two sum to 16/19 = 0.84.
    assert shares(top_k=3, top_p=0.8) == pytest.approx([0.625, 0.375, 0, 0], abs=0.001)
    assert shares(top_k=0, top_p=0.01) == pytest.approx([1, 0, 0, 0], abs=0.001)
    # At temperature 1/2 probabilities are squared: 0.25, 0.09, 0.0225, 0.0025 of 0.365.
    assert shares(top_k=0, top_p=1.0, temperature=0.5) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.001)


def test_the_order_of_tokens_doesnt_matter_to_top_p() -> None:
    """The most likely tokens are kept wherever they are in the vocabulary."""
    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.3])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = choose_tokens(
        probabilities.log().expand(1000, 4), uniform, SamplingConfig(top_k=0, top_p=0.79), never=None
    )
    assert set(tokens.tolist()) == {1, 3}


def test_the_largest_uniform_number_draws_a_possible_token() -> None:
    """Rounding at the end of the cumulative sum never picks a token of probability zero."""
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    tokens = choose_tokens(
        logits, torch.tensor([1.0], dtype=torch.float64), SamplingConfig(top_k=0, top_p=1.0), never=None
    )
    assert tokens.tolist() == [1]


def test_uniform_numbers_come_from_their_own_seed() -> None:
    """Rows don't depend on one another, even with negative or huge seeds."""
    both = uniforms([7, -3], 5)
    assert torch.equal(both[0], uniforms([7], 5)[0])
    assert torch.equal(both[1], uniforms([-3], 5)[0])
    assert not torch.equal(both[0], both[1])
    assert uniforms([2**80], 2).shape == (1, 2)


def test_large_vocabularies_are_drawn_from_by_blocks() -> None:
    """Blocks only save work: top-k finds the same tokens, and an unrestricted draw picks the same token."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5003, generator=generator) * 3
    uniform = torch.rand(16, dtype=torch.float64, generator=generator)
    cumulated = logits.double().softmax(-1).cumsum(-1)
    expected = torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True).squeeze(1)
    tokens = choose_tokens(logits, uniform, SamplingConfig(top_k=0, top_p=1.0), never=None)
    assert torch.equal(tokens, expected)
    values, places = logits.sort(dim=-1, descending=True)
    kept = values[:, :20].double().softmax(-1).cumsum(-1)
    rank = torch.searchsorted(kept, uniform[:, None] * kept[:, -1:], right=True)
    tokens = choose_tokens(logits, uniform, SamplingConfig(top_k=20, top_p=1.0), never=None)
    assert torch.equal(tokens, places.gather(1, rank).squeeze(1))
