"""What docs/theory.md derives, checked by enumeration: estimators' means, their convergence, and optima."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from tiny_policy import ALL_REAL, ANSWERS, LENGTH, VOCABULARY, answer_logprobs, answer_rewards, tiny_policy
from torch import Tensor

from training import objectives, preference_losses
from training.errors import ConfigError
from training.evaluation.best_of_n import best_of_n_kl, best_of_n_weights
from training.objectives import (
    advantages_over_baseline,
    clipped_policy_loss,
    generalized_advantages,
    kl_k1,
    kl_pull,
    mle_loss,
    policy_gradient_loss,
    rewards_with_kl,
    rloo_advantages,
)
from training.preference_losses import bradley_terry_loss, dpo_loss

ROOT = Path(__file__).parents[3]
NO_VALUES = torch.zeros(len(ANSWERS), LENGTH, dtype=torch.float64)


def _gradient(of: Tensor, policy: Tensor) -> Tensor:
    return torch.autograd.grad(of, policy)[0].flatten()


def _probabilities(policy: Tensor) -> Tensor:
    """pi(y) (27,), with its gradient."""
    return answer_logprobs(policy).sum(dim=1).exp()


def _exact(policy: Tensor) -> Tensor:
    """The gradient of the expected reward, by autograd over all answers."""
    return _gradient((_probabilities(policy) * answer_rewards()).sum(), policy)


# --- Maximum likelihood ---------------------------------------------------------------------------------------------


def test_the_likelihoods_gradient_is_that_of_the_kl_from_the_data() -> None:
    """Over the data's distribution the loss's gradient is that of KL(data, pi), by autograd over all answers."""
    policy, data = tiny_policy(), _probabilities(tiny_policy(7)).detach()
    logprobs = answer_logprobs(policy)
    losses = torch.stack([mle_loss(logprobs[row : row + 1], ALL_REAL[row : row + 1]) for row in range(len(ANSWERS))])
    kl = (data * (data.log() - answer_logprobs(policy).sum(dim=1))).sum()
    ours = _gradient(LENGTH * (data * losses).sum(), policy)  # the loss is per token
    torch.testing.assert_close(ours, _gradient(kl, policy))


def test_the_likelihoods_gradient_vanishes_where_the_policy_is_the_data() -> None:
    """With answers from the policy itself there is nothing to learn: E[grad log pi] = 0 again."""
    policy = tiny_policy()
    own = _probabilities(policy).detach()
    loss = -(own * answer_logprobs(policy).sum(dim=1)).sum()
    assert float(_gradient(loss, policy).abs().max()) < 1e-12


def test_likelihood_is_the_policy_gradient_with_reward_one_on_the_data() -> None:
    """The same answers, the same gradient, whether called likelihood or policy gradient with an advantage of 1."""
    policy, rows = tiny_policy(), torch.tensor([3, 3, 11, 26])
    logprobs = answer_logprobs(policy)[rows]
    likelihood = _gradient(LENGTH * mle_loss(logprobs, ALL_REAL[rows]), policy)
    logprobs = answer_logprobs(policy)[rows]
    torch.testing.assert_close(
        likelihood, _gradient(policy_gradient_loss(logprobs, torch.ones(4), ALL_REAL[rows]), policy)
    )


# --- Policy gradient ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [-50.0, 0.0, 3.0])
def test_any_baseline_leaves_the_expected_gradient(baseline: float) -> None:
    """Even a bad one keeps the mean; only the variance grows."""
    policy = tiny_policy()
    weights = _probabilities(policy).detach()
    advantages = advantages_over_baseline(answer_rewards(), torch.full((len(ANSWERS),), baseline, dtype=torch.float64))
    estimate = _gradient((weights * advantages * answer_logprobs(policy).sum(dim=1)).sum(), policy)
    torch.testing.assert_close(estimate, _exact(policy))


def _reinforce(policy: Tensor, rows: Tensor) -> Tensor:
    return policy_gradient_loss(answer_logprobs(policy)[rows], answer_rewards()[rows], ALL_REAL[rows])


def _with_baseline(policy: Tensor, rows: Tensor) -> Tensor:
    baseline = (_probabilities(policy).detach() * answer_rewards()).sum().expand(len(rows))
    advantages = advantages_over_baseline(answer_rewards()[rows], baseline)
    return policy_gradient_loss(answer_logprobs(policy)[rows], advantages, ALL_REAL[rows])


def _rloo(policy: Tensor, rows: Tensor) -> Tensor:
    advantages = rloo_advantages(answer_rewards()[rows].view(-1, 4)).flatten()
    return policy_gradient_loss(answer_logprobs(policy)[rows], advantages, ALL_REAL[rows])


def _ppo(policy: Tensor, rows: Tensor) -> Tensor:
    logprobs = answer_logprobs(policy)[rows]
    at_the_end = rewards_with_kl(answer_rewards()[rows], logprobs.detach(), logprobs.detach(), ALL_REAL[rows], 0.0)
    advantages, _ = generalized_advantages(at_the_end, NO_VALUES[rows], ALL_REAL[rows], gamma=1.0, lam=1.0)
    return LENGTH * clipped_policy_loss(logprobs, logprobs, advantages, ALL_REAL[rows], 0.2)[0]


@pytest.mark.parametrize("estimator", [_reinforce, _with_baseline, _rloo, _ppo])
def test_sampled_estimators_converge_to_the_enumerated_gradient(estimator: object) -> None:
    """With a hundred times the samples, each estimator gets ten times closer to the exact gradient."""
    policy = tiny_policy()
    exact, weights = _exact(policy), _probabilities(policy).detach()
    generator = torch.Generator().manual_seed(11)
    errors = []
    for count in (80, 8000):
        squares = []
        for _ in range(24):
            rows = torch.multinomial(weights, count, replacement=True, generator=generator)
            estimate = -_gradient(estimator(policy, rows), policy)  # type: ignore[operator]
            squares.append((estimate - exact).square().sum())
        errors.append(float(torch.stack(squares).mean().sqrt()))
    assert errors[1] < 0.25 * float(exact.norm())
    assert 7 < errors[0] / errors[1] < 14


def test_a_baseline_makes_sampled_gradients_less_noisy() -> None:
    """Over 200 estimates from 32 answers each, a baseline, known or leave-one-out, greatly reduces the variance."""
    policy, generator = tiny_policy(), torch.Generator().manual_seed(3)
    weights = _probabilities(policy).detach()
    batches = [torch.multinomial(weights, 32, replacement=True, generator=generator) for _ in range(200)]
    scatter = {
        estimator: float(torch.stack([_gradient(estimator(policy, rows), policy) for rows in batches]).var(dim=0).sum())
        for estimator in (_reinforce, _with_baseline, _rloo)
    }
    assert scatter[_with_baseline] < 0.3 * scatter[_reinforce]
    assert scatter[_rloo] < 0.5 * scatter[_reinforce]


# --- KL and PPO -----------------------------------------------------------------------------------------------------


def test_the_penalised_reward_has_the_gradient_of_the_penalised_objective() -> None:
    """With R = r - beta log(pi / pi_ref) held constant, the estimator's mean is the gradient of E[r] - beta KL."""
    policy, reference, beta = tiny_policy(), answer_logprobs(tiny_policy(1)).detach(), 0.7
    logprobs = answer_logprobs(policy)
    kl = (_probabilities(policy) * (logprobs.sum(dim=1) - reference.sum(dim=1))).sum()
    exact = _gradient((_probabilities(policy) * answer_rewards()).sum() - beta * kl, policy)
    rewards = rewards_with_kl(answer_rewards(), logprobs.detach(), reference, ALL_REAL, beta)
    torch.testing.assert_close(
        rewards.sum(dim=1), answer_rewards() - beta * kl_k1(logprobs.detach(), reference, ALL_REAL)
    )
    weights = _probabilities(policy).detach()
    whole = _gradient((weights * rewards.sum(dim=1) * answer_logprobs(policy).sum(dim=1)).sum(), policy)
    torch.testing.assert_close(whole, exact)
    # What came before a token can't depend on it, so reward-to-go has the same mean.
    to_go, _ = generalized_advantages(rewards, NO_VALUES, ALL_REAL, gamma=1.0, lam=1.0)
    by_token = _gradient((weights[:, None] * to_go * answer_logprobs(policy)).sum(), policy)
    torch.testing.assert_close(by_token, exact)


def test_the_pulls_expected_gradient_is_that_of_the_kl_at_each_state() -> None:
    """Over all answers half the squared log-ratio has the gradient of the mean KL of the next token."""
    policy, other = tiny_policy(), tiny_policy(1).detach()
    weights, reference = _probabilities(policy).detach(), answer_logprobs(other)
    each = [
        kl_pull(answer_logprobs(policy)[row : row + 1], reference[row : row + 1], ALL_REAL[row : row + 1])
        for row in range(len(ANSWERS))
    ]
    before = torch.cat([torch.full((len(ANSWERS), 1), VOCABULARY), ANSWERS[:, :-1]], dim=1)
    kl = (policy.softmax(dim=-1) * (policy.log_softmax(dim=-1) - other.log_softmax(dim=-1))).sum(dim=-1)
    exact = (weights[:, None] * kl[before]).sum() / LENGTH  # the loss is per token
    torch.testing.assert_close(_gradient((weights * torch.stack(each)).sum(), policy), _gradient(exact, policy))


def test_values_are_a_baseline_of_each_prefix() -> None:
    """With lambda = 1 any value function leaves the expected gradient; the true one reduces its variance."""
    policy = tiny_policy()
    weights = _probabilities(policy).detach()
    rewards = torch.zeros_like(NO_VALUES)
    rewards[:, -1] = answer_rewards()
    expected = torch.zeros_like(NO_VALUES)  # of the reward, given the tokens before
    for t in range(LENGTH):
        for row in range(len(ANSWERS)):
            same = (ANSWERS[:, :t] == ANSWERS[row, :t]).all(dim=1)
            expected[row, t] = (weights * answer_rewards())[same].sum() / weights[same].sum()

    def moments(values: Tensor) -> tuple[Tensor, float]:
        advantages, _ = generalized_advantages(rewards, values, ALL_REAL, gamma=1.0, lam=1.0)
        each = torch.stack(
            [_gradient((advantages[row] * answer_logprobs(policy)[row]).sum(), policy) for row in range(len(ANSWERS))]
        )
        mean = (weights[:, None] * each).sum(dim=0)
        return mean, float((weights[:, None] * (each - mean).square()).sum())

    (plain, noise), (learned, less) = moments(NO_VALUES), moments(expected)
    torch.testing.assert_close(plain, _exact(policy))
    torch.testing.assert_close(learned, _exact(policy))
    assert less < 0.2 * noise


def test_ppo_first_step_is_the_policy_gradient() -> None:
    """At ratio 1, over all answers weighted by their probability, PPO's gradient is that of the expected reward."""
    policy = tiny_policy()
    weights = _probabilities(policy).detach()
    losses = torch.stack([_ppo(policy, torch.tensor([row])) for row in range(len(ANSWERS))])
    torch.testing.assert_close(-_gradient((weights * losses).sum(), policy), _exact(policy))


def test_nothing_is_left_to_learn_at_the_penalised_optimum() -> None:
    """At pi proportional to pi_ref exp(r / beta) the penalised reward is the same for every answer: no gradient."""
    beta, rewards = 0.5, answer_rewards()
    reference = _probabilities(tiny_policy(1)).detach().log()
    policy = (reference + rewards / beta).requires_grad_()  # logits over whole answers
    logprobs = policy.log_softmax(dim=-1)[:, None]
    one_token = torch.ones(len(ANSWERS), 1, dtype=torch.bool)
    penalised = rewards_with_kl(rewards, logprobs.detach(), reference[:, None], one_token, beta).sum(dim=1)
    torch.testing.assert_close(penalised, penalised[:1].expand_as(penalised))
    weights = logprobs.detach().exp().squeeze(1)
    gradient = _gradient((weights * penalised * logprobs.squeeze(1)).sum(), policy)
    assert float(gradient.abs().max()) < 1e-12


# --- Preferences ----------------------------------------------------------------------------------------------------


def test_bradley_terrys_gradient_is_prediction_minus_votes() -> None:
    """The derivative by the difference is sigmoid(difference) minus the share of votes, over the pairs."""
    chosen = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    votes = torch.tensor([1.0, 2 / 3, 0.5], dtype=torch.float64)
    bradley_terry_loss(chosen, torch.zeros(3, dtype=torch.float64), votes).backward()
    assert chosen.grad is not None
    torch.testing.assert_close(chosen.grad, (chosen.detach().sigmoid() - votes) / 3, rtol=1e-6, atol=1e-7)


def test_bradley_terry_recovers_the_scores_that_people_vote_by() -> None:
    """With the share of votes of every pair of six answers, the minimum is at the true scores, up to a constant."""
    true = torch.tensor([0.0, 1.5, -0.7, 0.4, 2.2, -1.1], dtype=torch.float64)
    first, second = torch.combinations(torch.arange(6)).T
    votes = (true[first] - true[second]).sigmoid()
    scores = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = bradley_terry_loss(scores[first], scores[second], votes)
        value.backward()
        return value

    optimizer.step(loss)
    learned = scores.detach()
    torch.testing.assert_close(learned - learned.mean(), true - true.mean(), rtol=0, atol=1e-3)


def _every_pair() -> tuple[Tensor, Tensor]:
    first, second = torch.combinations(torch.arange(len(ANSWERS))).T
    return first, second


def test_dpos_gradient_is_prediction_minus_votes_times_the_scores_difference() -> None:
    """Over all 351 pairs of answers it is beta (sigmoid(difference) - p) (grad log pi(y1) - grad log pi(y2))."""
    policy, beta = tiny_policy(), 0.3
    reference = answer_logprobs(tiny_policy(1)).detach().sum(dim=1)
    first, second = _every_pair()
    votes = torch.rand(len(first), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ratios = answer_logprobs(policy).sum(dim=1) - reference
    ours = _gradient(dpo_loss(ratios[first], ratios[second], votes, beta), policy)
    logprobs = answer_logprobs(policy).sum(dim=1)
    scores = torch.stack([torch.autograd.grad(value, policy, retain_graph=True)[0].flatten() for value in logprobs])
    wrong = (beta * (ratios[first] - ratios[second]).detach()).sigmoid() - votes
    exact = (beta * wrong[:, None] * (scores[first] - scores[second])).mean(dim=0)
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-7)  # the loss is in float32


def test_dpo_is_bradley_terry_with_the_policys_own_reward() -> None:
    """If people vote by rewards, DPO's minimum is the optimum under those rewards and the KL penalty."""
    beta, rewards = 0.5, answer_rewards()
    reference = _probabilities(tiny_policy(1)).detach().log()
    optimum = (reference + rewards / beta).log_softmax(dim=-1)
    first, second = _every_pair()
    votes = (rewards[first] - rewards[second]).sigmoid()
    implied = beta * (optimum - reference)  # the rewards, up to a constant that cancels in each pair
    torch.testing.assert_close(implied - implied.mean(), rewards - rewards.mean())
    policy = optimum.clone().requires_grad_()  # logits over whole answers
    ratios = policy.log_softmax(dim=-1) - reference
    loss = dpo_loss(ratios[first], ratios[second], votes, beta)
    assert float(loss.detach()) == pytest.approx(float(bradley_terry_loss(rewards[first], rewards[second], votes)))
    assert float(_gradient(loss, policy).abs().max()) < 1e-7


# --- Best of n ------------------------------------------------------------------------------------------------------


def _best_of_n(probabilities: Tensor, rewards: Tensor, n: int) -> Tensor:
    """The probability of each answer to be the best of n: it is the best if none of the n is better."""
    order = rewards.argsort()
    up_to = probabilities[order].cumsum(dim=0)
    found = torch.empty_like(probabilities)
    found[order] = up_to**n - (up_to - probabilities[order]) ** n
    return found


def test_the_best_of_n_distribution_by_enumeration() -> None:
    """Over all 27^3 triples of answers the best one is distributed as the formula says."""
    probabilities, rewards = _probabilities(tiny_policy()).detach(), answer_rewards()
    found = torch.zeros_like(probabilities)
    for triple in itertools.product(range(len(ANSWERS)), repeat=3):
        rows = torch.tensor(triple)
        found[rows[rewards[rows].argmax()]] += probabilities[rows].prod()
    torch.testing.assert_close(found, _best_of_n(probabilities, rewards, 3))


def test_the_kl_of_best_of_n() -> None:
    """Enumerated it is at most ln n - (n - 1) / n, which it reaches as single answers become unlikely."""
    few, rewards = _probabilities(tiny_policy()).detach(), answer_rewards()
    many = torch.full((20_000,), 1 / 20_000, dtype=torch.float64)
    for n in (1, 2, 4, 16, 64):
        best = _best_of_n(few, rewards, n)
        assert float((best * (best.clamp(min=1e-300) / few).log()).sum()) <= best_of_n_kl(n) + 1e-12
        best = _best_of_n(many, torch.arange(20_000), n)
        exact = float((best * (best.clamp(min=1e-300) / many).log()).sum())
        assert exact == pytest.approx(best_of_n_kl(n), abs=1e-3)


def test_a_pool_estimates_best_of_n_without_bias() -> None:
    """The weights of a pool of 6 are the shares of all 20 triples in which each answer is the best."""
    weights = best_of_n_weights(6, 3)
    counts = [sum(min(triple) == rank for triple in itertools.combinations(range(6), 3)) for rank in range(6)]
    torch.testing.assert_close(weights, torch.tensor(counts, dtype=torch.float64) / 20)
    assert best_of_n_weights(4, 4).tolist() == [1, 0, 0, 0]
    assert best_of_n_weights(4, 1).tolist() == [0.25] * 4
    with pytest.raises(ConfigError, match="n = 5"):
        best_of_n_weights(4, 5)


# --- The page -------------------------------------------------------------------------------------------------------


def test_every_function_and_test_that_the_page_names_exists() -> None:
    """docs/theory.md links equations to functions and tests that exist, and covers every objective."""
    page = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    tests = "\n".join(
        (Path(__file__).parent / name).read_text(encoding="utf-8")
        for name in ("test_objectives.py", "test_theory.py", "ppo/test_critic.py")
    )
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 15
    assert not {name for name in named if f"def {name}(" not in tests}
    public = {
        name
        for module in (objectives, preference_losses)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    }
    assert public - {"masked_sum", "masked_mean"} <= set(re.findall(r"`(\w+)`", page))
