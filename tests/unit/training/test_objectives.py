"""The theory, checked by enumerating every answer of a tiny policy, and each loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_policy import ALL_REAL, ANSWERS, LENGTH, answer_logprobs, answer_rewards, tiny_policy
from torch import Tensor

from training.errors import ConfigError
from training.objectives import (
    adapted_kl_coefficient,
    advantages_over_baseline,
    clipped_policy_loss,
    clipped_value_loss,
    gather_logprobs,
    generalized_advantages,
    kl_k1,
    kl_k3,
    masked_mean,
    mle_loss,
    policy_gradient_loss,
    rewards_with_kl,
    rloo_advantages,
    whiten,
)
from training.preference_losses import bradley_terry_loss, dpo_loss


def _gradients(policy: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
    """The probability (27,) of each answer, and the gradient of the loss if it were sampled (27, 12)."""
    probabilities = answer_logprobs(policy).sum(dim=1).exp().detach()
    rows = []
    for row in range(len(ANSWERS)):
        loss = policy_gradient_loss(
            answer_logprobs(policy)[row : row + 1], advantages[row : row + 1], torch.ones(1, LENGTH, dtype=torch.bool)
        )
        rows.append(torch.autograd.grad(loss, policy)[0].flatten())
    return probabilities, torch.stack(rows)


# --- Likelihood -----------------------------------------------------------------------------------------------------


def test_gathered_logprobs_are_log_softmax_at_the_token() -> None:
    """Logits 0 and ln 3 give probabilities 1/4 and 3/4; at temperature 1/2 they are 1/10 and 9/10."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]])
    tokens = torch.tensor([[0, 1]])
    assert gather_logprobs(logits, tokens).exp().tolist() == [pytest.approx([0.25, 0.75])]
    assert gather_logprobs(logits, tokens, temperature=0.5).exp().tolist() == [pytest.approx([0.1, 0.9])]


def test_the_likelihoods_gradient_is_data_minus_model() -> None:
    """For one context, grad of the loss is softmax minus the tokens' frequencies; padding adds nothing."""
    logits = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float32, requires_grad=True)
    tokens = torch.tensor([[0, 2, 2], [1, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    mle_loss(gather_logprobs(logits.expand(2, 3, 3), tokens), mask).backward()
    frequencies = torch.tensor([0.25, 0.25, 0.5])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - frequencies)


# --- Policy gradient ------------------------------------------------------------------------------------------------


def test_the_expected_score_function_is_zero() -> None:
    """E[grad log pi] = 0, so a reward that is 1 for every answer teaches nothing."""
    policy = tiny_policy()
    probabilities, gradients = _gradients(policy, torch.ones(len(ANSWERS), dtype=torch.float64))
    assert float(probabilities.sum()) == pytest.approx(1.0)
    assert float((probabilities[:, None] * gradients).sum(dim=0).abs().max()) < 1e-12
    assert float(gradients.abs().max()) > 0.1


def test_the_estimator_is_the_gradient_of_the_expected_reward() -> None:
    """Averaged over the policy's answers, it equals autograd's gradient of the sum over y of pi(y) r(y)."""
    policy, rewards = tiny_policy(), answer_rewards()
    probabilities, gradients = _gradients(policy, rewards)
    expected_reward = (answer_logprobs(policy).sum(dim=1).exp() * rewards).sum()
    exact = torch.autograd.grad(expected_reward, policy)[0].flatten()
    torch.testing.assert_close(-(probabilities[:, None] * gradients).sum(dim=0), exact)


def test_a_baseline_changes_the_variance_but_not_the_gradient() -> None:
    """With b(x) the expected reward, the expected gradient is the same to rounding and much less noisy."""
    policy, rewards = tiny_policy(), answer_rewards()
    probabilities, plain = _gradients(policy, rewards)
    baseline = (probabilities * rewards).sum().expand(len(ANSWERS))
    _, with_baseline = _gradients(policy, advantages_over_baseline(rewards, baseline))
    weights = probabilities[:, None]
    mean, same_mean = (weights * plain).sum(dim=0), (weights * with_baseline).sum(dim=0)
    torch.testing.assert_close(same_mean, mean)
    variance = (weights * (plain - mean).square()).sum()
    lower = (weights * (with_baseline - mean).square()).sum()
    assert float(lower) < 0.3 * float(variance)


def test_rloo_is_unbiased() -> None:
    """Over every pair of answers the leave-one-out estimator's mean is the gradient of the expected reward."""
    policy, rewards = tiny_policy(), answer_rewards()
    probabilities, scores = _gradients(policy, torch.ones(len(ANSWERS), dtype=torch.float64))
    first, second = (part.flatten() for part in torch.meshgrid(torch.arange(27), torch.arange(27), indexing="ij"))
    advantages = rloo_advantages(torch.stack([rewards[first], rewards[second]], dim=1))
    weights = (probabilities[first] * probabilities[second])[:, None]
    estimate = (advantages[:, :1] * scores[first] + advantages[:, 1:] * scores[second]) / 2
    exact = (probabilities[:, None] * rewards[:, None] * scores).sum(dim=0)
    torch.testing.assert_close((weights * estimate).sum(dim=0), exact)


def test_rloo_by_hand() -> None:
    """Each score minus the mean of the others; a single answer is an error."""
    assert rloo_advantages(torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])).tolist() == [[-3, -1.5, 4.5], [0, 0, 0]]
    with pytest.raises(ConfigError, match="answers_per_prompt"):
        rloo_advantages(torch.zeros(3, 1))


# --- KL -------------------------------------------------------------------------------------------------------------


def test_both_kl_estimates_are_unbiased() -> None:
    """Averaged over the policy's answers both equal the sum of pi log(pi / pi_ref), and k3 is never negative."""
    ours, theirs = answer_logprobs(tiny_policy(0)).detach(), answer_logprobs(tiny_policy(1)).detach()
    probabilities = ours.sum(dim=1).exp()
    exact = float((probabilities * (ours.sum(dim=1) - theirs.sum(dim=1))).sum())
    k1, k3 = kl_k1(ours, theirs, ALL_REAL), kl_k3(ours, theirs, ALL_REAL)
    assert float((probabilities * k1).sum()) == pytest.approx(exact)
    assert float((probabilities * k3).sum()) == pytest.approx(exact)
    assert bool((k1 < 0).any())
    assert bool((k3 >= 0).all())


def test_the_score_stands_at_the_last_real_token() -> None:
    """The KL penalty applies to each token, the score to the last one, and padding gets 0."""
    logprobs = torch.tensor([[-1.0, -2.0, 9.0], [-1.0, -1.0, -1.0]])
    reference = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, -1.0, -3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = rewards_with_kl(torch.tensor([5.0, 7.0]), logprobs, reference, mask, kl_coefficient=0.1)
    assert rewards.tolist() == [pytest.approx([-0.1, 5.1, 0.0]), pytest.approx([0.0, 0.0, 6.8])]


def test_the_kl_controller_moves_towards_its_target() -> None:
    """Too much KL raises the coefficient, too little lowers it: in proportion, by a factor of at most e per horizon."""
    settings = {"target_nats": 6.0, "sequences": 64, "horizon_sequences": 640}
    assert adapted_kl_coefficient(0.1, 6.0, **settings) == 0.1
    assert adapted_kl_coefficient(0.1, 9.0, **settings) == pytest.approx(0.1 * math.exp(0.05))
    assert adapted_kl_coefficient(0.1, 60.0, **settings) == pytest.approx(0.1 * math.exp(0.1))
    assert adapted_kl_coefficient(0.1, -9.0, **settings) == pytest.approx(0.1 * math.exp(-0.1))


# --- PPO ------------------------------------------------------------------------------------------------------------


def test_with_lambda_one_gae_is_reward_to_go_minus_value() -> None:
    """For every token of every sequence, also discounted, whatever is at padding."""
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    values = torch.where(mask, values, math.nan)
    for gamma in (1.0, 0.9):
        advantages, returns = generalized_advantages(rewards, values, mask, gamma=gamma, lam=1.0)
        for row, length in enumerate((5, 3, 1)):
            for t in range(length):
                to_go = sum(gamma ** (k - t) * float(rewards[row, k]) for k in range(t, length))
                assert float(advantages[row, t]) == pytest.approx(to_go - float(values[row, t]))
                assert float(returns[row, t]) == pytest.approx(to_go)
        assert bool((advantages[~mask] == 0).all())
        assert bool((returns[~mask] == 0).all())


def test_with_lambda_zero_gae_is_the_one_step_error() -> None:
    """r + gamma V(next) - V, with a value of 0 after the last token."""
    rewards, values = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 1.0, 2.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, _ = generalized_advantages(rewards, values, mask, gamma=0.5, lam=0.0)
    assert advantages.tolist() == [[1 + 0.5 - 0.5, 2 + 1.0 - 1.0, 4 - 2.0]]


def test_whitening_gives_mean_zero_and_deviation_one_over_real_tokens() -> None:
    """Padding doesn't count; without centring every value keeps its sign."""
    values = torch.tensor([[3.0, 5.0, math.nan], [10.0, math.inf, 999.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    whitened = whiten(values, mask)
    assert float(whitened[mask].mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(whitened[mask].std(correction=0)) == pytest.approx(1.0)
    assert bool((whitened[~mask] == 0).all())
    scaled = whiten(values, mask, center=False)
    assert float(scaled[mask].std(correction=0)) == pytest.approx(1.0)
    assert bool((scaled[mask] > 0).all())
    assert whiten(torch.full((2, 2), 7.0), torch.ones(2, 2, dtype=torch.bool)).tolist() == [[0, 0], [0, 0]]


def test_at_ratio_one_the_policy_loss_is_minus_the_mean_advantage() -> None:
    """At a ratio of 1 nothing is clipped, and the gradient is the policy gradient."""
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, -2.0], [4.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    loss, clipped = clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask, clip_ratio=0.2)
    assert float(loss.detach()) == pytest.approx(-1.0)
    assert float(clipped) == 0
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([-1 / 3, 2 / 3]), pytest.approx([-4 / 3, 0.0])]


def test_the_policy_clip_by_hand() -> None:
    """A good token gains nothing above 1.2, a bad one nothing below 0.8; changes for the worse aren't clipped."""
    ratios = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    for token, expected in enumerate([-1.2, 0.8, 1.5, -0.5]):
        one = mask & (torch.arange(4) == token)
        loss, clipped = clipped_policy_loss(ratios.log(), torch.zeros(1, 4), advantages, one, clip_ratio=0.2)
        assert float(loss) == pytest.approx(expected)
        assert float(clipped) == (1.0 if token < 2 else 0.0)


def test_the_value_clip_by_hand() -> None:
    """Half the larger of the two squared errors, free and clipped to 0.2 from the old value."""
    old, returns = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 1.1]])
    values = torch.tensor([[1.5, 1.1]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss, clipped = clipped_value_loss(values, old, returns, mask, clip_value=0.2)
    # First: free 0.25, clipped to 1.2 0.64. Second: within the clip, 0.
    assert float(loss) == pytest.approx(0.5 * 0.64 / 2)
    assert float(clipped) == 0.5


def test_padding_never_changes_a_loss_or_a_gradient() -> None:
    """Every masked objective is the same when columns of nonsense, infinity and NaN are added."""
    generator = torch.Generator().manual_seed(3)
    a, b, c = (torch.randn(4, 3, generator=generator) for _ in range(3))
    mask = torch.arange(3) < torch.tensor([[3], [2], [1], [3]])
    nonsense = torch.tensor([math.nan, math.inf, -math.inf, 1e9])[:, None].expand(4, 2)

    def evaluate(x: Tensor, y: Tensor, z: Tensor, real: Tensor) -> list[float]:
        x = x.clone().requires_grad_()
        advantages, returns = generalized_advantages(y, z, real, gamma=1.0, lam=0.95)
        losses = [
            mle_loss(x, real),
            policy_gradient_loss(x, torch.arange(4.0), real),
            kl_k1(x, y, real).mean(),
            kl_k3(x, y, real).mean(),
            rewards_with_kl(torch.arange(4.0), x, y, real, 0.1).sum(),
            clipped_policy_loss(x, y, whiten(advantages, real), real, 0.2)[0],
            clipped_value_loss(x, y, returns, real, 0.2)[0],
            masked_mean(whiten(x, real) * torch.where(real, z, 0.0), real),
        ]
        gradients = [torch.autograd.grad(loss, x, retain_graph=True)[0][:, :3] for loss in losses]
        assert all(bool(torch.isfinite(gradient[real[:, :3]]).all()) for gradient in gradients)
        assert all(bool((gradient[~real[:, :3]] == 0).all()) for gradient in gradients)
        return [float(loss.detach()) for loss in losses] + [float(gradient.square().sum()) for gradient in gradients]

    padded = [torch.cat([part, nonsense], dim=1) for part in (a, b, c)]
    wider = torch.cat([mask, torch.zeros(4, 2, dtype=torch.bool)], dim=1)
    assert evaluate(*padded, wider) == pytest.approx(evaluate(a, b, c, mask), rel=1e-5)


# --- Preferences ----------------------------------------------------------------------------------------------------


def test_bradley_terry_by_hand() -> None:
    """With a difference of ln 3 the chosen answer wins with probability 3/4."""
    chosen, rejected = torch.tensor([math.log(3)]), torch.tensor([0.0])
    certain = bradley_terry_loss(chosen, rejected, torch.tensor([1.0]))
    assert float(certain) == pytest.approx(-math.log(0.75))
    two_of_three = bradley_terry_loss(chosen, rejected, torch.tensor([2 / 3]))
    assert float(two_of_three) == pytest.approx(-(2 / 3) * math.log(0.75) - (1 / 3) * math.log(0.25))
    smoothed = bradley_terry_loss(chosen, rejected, torch.tensor([1.0]), label_smoothing=0.1)
    assert float(smoothed) == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


def test_a_tie_pulls_scores_together() -> None:
    """At p = 0.5 the loss is lowest where the scores are equal, whichever way they differed."""
    for difference in (-2.0, 2.0):
        chosen = torch.tensor([difference], requires_grad=True)
        bradley_terry_loss(chosen, torch.zeros(1), torch.tensor([0.5])).backward()
        assert chosen.grad is not None
        assert float(chosen.grad) * difference > 0
    assert float(bradley_terry_loss(torch.ones(1), torch.ones(1), torch.tensor([0.5]))) == pytest.approx(math.log(2))


def test_dpo_by_hand() -> None:
    """At beta 1/2 log-ratios of ln 9 and 0 differ by ln 3: the chosen answer is expected to win with 3/4."""
    ratios, votes = torch.tensor([math.log(9), 0.0]), torch.tensor([1.0, 1.0])
    expected = [-math.log(0.75), math.log(2)]
    assert float(dpo_loss(ratios, torch.zeros(2), votes, 0.5)) == pytest.approx(sum(expected) / 2)
    weighted = dpo_loss(ratios, torch.zeros(2), votes, 0.5, torch.tensor([2.0, 0.0]))
    assert float(weighted) == pytest.approx(expected[0])


def test_bradley_terry_doesnt_underflow() -> None:
    """A pair ranked wrongly by 1000 costs 1000 nats and still has a gradient."""
    chosen = torch.tensor([-1000.0], requires_grad=True)
    loss = bradley_terry_loss(chosen, torch.zeros(1), torch.ones(1))
    loss.backward()
    assert float(loss.detach()) == 1000
    assert chosen.grad is not None
    assert float(chosen.grad) == -1
