"""Advantages of the three algorithms, worked out by hand, and what an update may and may not depend on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2

from training.config import PPOConfig, SamplingConfig
from training.errors import DivergedError
from training.models.policy import PolicyWithValue
from training.models.reward import RewardModel
from training.ppo.update import Targets, accumulate_gradients, targets_of, update
from training.sampling.rollouts import Rollout, respond
from training.sampling.sampler import Samples

PROMPTS = [[1, 2, 3], [4, 5, 6, 7], [1, 2, 3], [8]]
ANSWERS = [[9, 10, EOS], [11, EOS], [12, 13, 14, 15], [16, 17, EOS]]  # the third is truncated


def _samples(answers: list[list[int]], width: int) -> Samples:
    tokens = torch.full((len(answers), width), PAD)
    mask = torch.zeros(len(answers), width, dtype=torch.bool)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer)] = torch.tensor(answer)
        mask[row, : len(answer)] = True
    ended = torch.tensor([answer[-1] == EOS for answer in answers])
    return Samples(tokens=tokens, mask=mask, ended=ended)


def _setting(*, trained: bool = True) -> tuple[PolicyWithValue, RewardModel]:
    base = tiny_gpt2()
    policy, reward_model = PolicyWithValue(base), RewardModel.on_base(base, 0.7)
    nudge(reward_model.parameters(), seed=2)
    if trained:
        nudge(policy.parameters(), seed=3)
    return policy, reward_model


def _rollout(policy: PolicyWithValue, reward_model: RewardModel, temperature: float = 1.0, width: int = 4) -> Rollout:
    return respond(
        policy,
        reward_model,
        PROMPTS,
        _samples(ANSWERS, width),
        eos_id=EOS,
        temperature=temperature,
        batch=3,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_the_models_own_at_the_sampling_temperature(temperature: float) -> None:
    """Policy and reference log-probs equal those of the full models on unpadded sequences, temperature included."""
    policy, reward_model = _setting()
    rollout = _rollout(policy, reward_model, temperature)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        for model, found in (
            (policy.language_model, rollout.logprobs),
            (policy.base.model, rollout.reference_logprobs),
        ):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            expected = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
            torch.testing.assert_close(found[row, : len(answer)], expected, rtol=0, atol=1e-5)
            assert torch.equal(found[row, len(answer) :], torch.zeros(4 - len(answer)))


def test_a_cut_off_answer_is_scored_with_its_end() -> None:
    """The score is that of the text an annotator would see: prompt, answer and end of text."""
    policy, reward_model = _setting()
    rollout = _rollout(policy, reward_model)
    for row, closing in ((0, []), (2, [EOS])):
        ids = torch.tensor([PROMPTS[row] + ANSWERS[row] + closing])
        alone = reward_model.score(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(rollout.scores[row], alone[0], rtol=0, atol=1e-5)


def test_a_fresh_policy_has_no_kl_and_no_values() -> None:
    """Before training, policy and reference log-probs are bitwise identical and every value is 0."""
    rollout = _rollout(*_setting(trained=False))
    assert torch.equal(rollout.logprobs, rollout.reference_logprobs)
    assert torch.equal(rollout.values, torch.zeros(4, 4))


def test_entropy_of_an_even_choice() -> None:
    """A policy whose top layers output zero samples uniformly from 40 tokens: ln 40 nats each."""
    policy, reward_model = _setting()
    with torch.no_grad():
        policy.top.norm.weight.zero_()
        policy.top.norm.bias.zero_()
    rollout = _rollout(policy, reward_model)
    torch.testing.assert_close(rollout.entropies[rollout.answer_mask], torch.full((12,), 40.0).log())


def test_ppo_targets() -> None:
    """With lambda 1 and no KL penalty, each token's advantage is reward minus value and its return is the reward."""
    rollout = _rollout(*_setting())
    config = PPOConfig(lam=1.0, whiten_advantages=False)
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    targets = targets_of(rollout, rewards, config, kl_coefficient=0.0)
    mask = rollout.answer_mask
    expected = torch.where(mask, rewards[:, None].expand(4, 4), 0.0)
    torch.testing.assert_close(targets.returns, expected)
    torch.testing.assert_close(targets.advantages, torch.where(mask, expected - rollout.values, 0.0))
    assert torch.equal(targets.value_mask, mask)


def test_rloo_targets() -> None:
    """Two answers to a prompt with rewards 1 and -2 have advantages 3 and -3 at every token; no value is learned."""
    rollout = _rollout(*_setting())
    config = PPOConfig(algorithm="rloo", critic="none", answers_per_prompt=2, whiten_advantages=False)
    targets = targets_of(rollout, torch.tensor([1.0, -2.0, 0.5, 3.0]), config, kl_coefficient=0.0)
    expected = torch.where(rollout.answer_mask, torch.tensor([3.0, -3.0, -2.5, 2.5])[:, None], 0.0)
    torch.testing.assert_close(targets.advantages, expected)
    assert not targets.value_mask.any()


def test_rloo_targets_with_a_critic() -> None:
    """With lambda 1 a token's advantage is the reward minus what was expected before it; the KL is in the loss, in the
    unit of the advantages; no value is learned.
    """
    rollout = dataclasses.replace(_rollout(*_setting()), values=torch.arange(16.0).view(4, 4))
    config = PPOConfig(algorithm="rloo", answers_per_prompt=2, lam=1.0, whiten_advantages=False)
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    targets = targets_of(rollout, rewards, config, kl_coefficient=0.1)
    expected = torch.where(rollout.answer_mask, rewards[:, None] - rollout.values, 0.0)
    torch.testing.assert_close(targets.advantages, expected)
    assert targets.kl_weight == 0.1
    assert not targets.value_mask.any()
    whitened = targets_of(rollout, rewards, config.model_copy(update={"whiten_advantages": True}), 0.1)
    assert whitened.kl_weight == pytest.approx(0.1 * float(whitened.advantages[0, 0] / targets.advantages[0, 0]))


def test_the_pull_brings_the_policy_back() -> None:
    """With nothing to gain, the pull alone lowers the KL at the sampled tokens."""
    policy, reward_model = _setting()
    before = _rollout(policy, reward_model)
    nothing = torch.zeros(4, 4)
    targets = Targets(nothing, nothing, torch.zeros_like(before.answer_mask), kl_weight=1.0)
    config = PPOConfig(algorithm="rloo", answers_per_prompt=2, epochs=1, minibatch_size=4)
    update(policy, torch.optim.SGD(policy.parameters(), lr=1e-2), before, targets, config, seed=0)
    after = _rollout(policy, reward_model)
    gaps = [(part.logprobs - part.reference_logprobs).square().sum() for part in (before, after)]
    assert gaps[1] < gaps[0]


def test_reinforce_targets() -> None:
    """The advantage is the sequence's reward minus KL penalty and b(x); b(x) is learned only at the prompt."""
    rollout = _rollout(*_setting())
    config = PPOConfig(algorithm="reinforce", whiten_advantages=False)
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    targets = targets_of(rollout, rewards, config, kl_coefficient=0.1)
    kl = (rollout.logprobs - rollout.reference_logprobs).sum(dim=1)
    total = rewards - 0.1 * kl
    torch.testing.assert_close(targets.advantages[:, 0], total - rollout.values[:, 0])
    torch.testing.assert_close(targets.advantages[0, :3], targets.advantages[0, :1].expand(3))
    torch.testing.assert_close(targets.returns[:, 0], total)
    assert targets.value_mask.sum(dim=1).tolist() == [1, 1, 1, 1]
    assert targets.value_mask[:, 0].all()


def test_whitened_ppo_advantages_are_centred() -> None:
    """Over real tokens their mean is 0 and their deviation 1; the other two algorithms' aren't centred again."""
    rollout = _rollout(*_setting())
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    whitened = targets_of(rollout, rewards, PPOConfig(), 0.05).advantages[rollout.answer_mask]
    assert float(whitened.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(whitened.std(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    config = PPOConfig(algorithm="rloo", critic="none", answers_per_prompt=2)
    rloo = targets_of(rollout, rewards, config, 0.0).advantages
    assert float(rloo[0, 0]) == pytest.approx(-float(rloo[1, 0]), abs=1e-6)


def _updated(rollout: Rollout, width: int, minibatch_size: int = 4) -> tuple[PolicyWithValue, float]:
    """The policy after one update with fixed advantages, and the first minibatch's ratio gap."""
    policy, _ = _setting()
    config = PPOConfig(epochs=1, minibatch_size=minibatch_size, learning_rate=1e-2)
    advantages = torch.zeros(4, width)
    advantages[:, :4] = torch.linspace(-1, 1, 16).view(4, 4)
    targets = Targets(advantages, advantages * 0.5, rollout.answer_mask)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    stats = update(policy, optimizer, rollout, targets, config, seed=0)
    return policy, stats.first_ratio_gap


def test_the_first_minibatchs_ratio_is_1() -> None:
    """The first minibatch's ratio is 1 at any temperature and padding."""
    for temperature in (1.0, 0.6):
        policy, reward_model = _setting()
        rollout = _rollout(policy, reward_model, temperature, width=6)
        config = PPOConfig(minibatch_size=2, sampling=SamplingConfig(top_k=0, top_p=1.0, temperature=temperature))
        targets = Targets(rollout.logprobs, rollout.values, rollout.answer_mask)
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        assert update(policy, optimizer, rollout, targets, config, seed=0).first_ratio_gap < 1e-5


def test_padding_has_no_influence_on_an_update() -> None:
    """Two more columns of padding, filled with garbage, lead to the same weights."""
    narrow = _rollout(*_setting())
    wide = _rollout(*_setting(), width=6)
    wide.tokens[~wide.answer_mask] = 21
    wide = dataclasses.replace(wide, logprobs=torch.where(wide.answer_mask, wide.logprobs, 1e6))
    for left, right in zip(_updated(narrow, 4)[0].parameters(), _updated(wide, 6)[0].parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_an_update_changes_neither_base_nor_reference() -> None:
    """An update leaves the reference's log-probs of the same answers bitwise unchanged."""
    policy, reward_model = _setting()
    before = _rollout(policy, reward_model)
    targets = targets_of(before, torch.tensor([1.0, -1.0, 2.0, 0.0]), PPOConfig(), 0.05)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    update(policy, optimizer, before, targets, PPOConfig(epochs=2), seed=0)
    after = _rollout(policy, reward_model)
    assert torch.equal(before.reference_logprobs, after.reference_logprobs)
    assert torch.equal(before.scores, after.scores)
    assert not torch.equal(before.logprobs, after.logprobs)


def test_nan_stops_the_update_before_it_reaches_the_weights() -> None:
    """A NaN advantage raises an error, and the policy isn't changed."""
    policy, reward_model = _setting()
    rollout = _rollout(policy, reward_model)
    before = [value.clone() for value in policy.parameters()]
    broken = Targets(torch.full((4, 4), torch.nan), torch.zeros(4, 4), rollout.answer_mask)
    with pytest.raises(DivergedError, match="NaN or infinite"):
        update(policy, torch.optim.SGD(policy.parameters(), lr=0.1), rollout, broken, PPOConfig(), seed=0)
    assert all(torch.equal(left, right) for left, right in zip(before, policy.parameters(), strict=True))


def test_a_better_answer_becomes_likelier() -> None:
    """One step raises the log-prob of the answer with a positive advantage and lowers the other's."""
    policy, reward_model = _setting()
    before = _rollout(policy, reward_model)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None].expand(4, 4)
    targets = Targets(signs.clone(), torch.zeros(4, 4), before.answer_mask)
    config = PPOConfig(epochs=1, minibatch_size=4, value_coefficient=0.0)
    update(policy, torch.optim.SGD(policy.parameters(), lr=1e-2), before, targets, config, seed=0)
    change = (_rollout(policy, reward_model).logprobs - before.logprobs).sum(dim=1)
    assert (change * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum() > 0


def _gradients(config: PPOConfig, *, recompute: bool = False) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], dict]:
    policy, reward_model = _setting()
    rollout = _rollout(policy, reward_model)
    targets = targets_of(rollout, torch.tensor([1.0, -2.0, 0.5, 3.0]), config, kl_coefficient=0.1)
    nudge(policy.parameters(), seed=4, scale=0.01)
    policy.top.recompute = recompute
    loss, measured = accumulate_gradients(policy, rollout, targets, torch.tensor([3, 0, 2, 1]), config)
    return loss, measured, {name: value.grad for name, value in policy.named_parameters()}


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "reinforce"])
@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_give_the_gradients_of_the_whole(algorithm: str, size: int) -> None:
    """Answers of 2 to 4 tokens, one or three at a time: loss, statistics and gradients are the whole minibatch's."""
    config = PPOConfig(algorithm=algorithm, answers_per_prompt=2, precision="float32")
    loss, measured, gradients = _gradients(config)
    parted = _gradients(config.model_copy(update={"micro_batch_size": size}))
    torch.testing.assert_close(parted[0], loss)
    torch.testing.assert_close(parted[1], measured)
    for name, value in gradients.items():
        torch.testing.assert_close(parted[2][name], value, rtol=1e-4, atol=1e-6)


def test_recomputing_activations_changes_no_gradient() -> None:
    """Gradients are bit for bit the same when the blocks are computed again in the backward pass."""
    config = PPOConfig(precision="float32")
    kept, again = _gradients(config)[2], _gradients(config, recompute=True)[2]
    assert all(torch.equal(again[name], value) for name, value in kept.items())


def test_the_reward_model_scores_what_people_see() -> None:
    """An answer whose text is other tokens than those sampled is scored by its text; log-probs stay the samples'."""
    policy, reward_model = _setting()
    samples = _samples(ANSWERS, 4)
    seen = [answer if answer[-1] == EOS else [*answer, EOS] for answer in ANSWERS]
    seen[0] = [*seen[1]]
    plain = _rollout(policy, reward_model)
    shown = respond(policy, reward_model, PROMPTS, samples, eos_id=EOS, temperature=1.0, batch=3, seen=seen)
    expected, _ = reward_model.score_sequences([(PROMPTS[0], seen[0])], EOS)
    torch.testing.assert_close(shown.scores[:1], expected)
    assert not torch.equal(shown.scores[:1], plain.scores[:1])
    torch.testing.assert_close(shown.scores[1:], plain.scores[1:])
    torch.testing.assert_close(shown.logprobs, plain.logprobs)
