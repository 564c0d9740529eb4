"""Objectives of a policy as pure functions: likelihood, policy gradient, PPO; `preference_losses` has the others.

Legend: B sequences, T tokens of the longest answer, V vocabulary, N prompts, K answers to each.
Masks are True at real tokens; values at padding never matter, not even infinity or NaN. KL is in nats.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.errors import ConfigError

# --- Masked sums ----------------------------------------------------------------------------------------------------


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the real tokens of each sequence: values (B, T), mask (B, T) bool, to (B,)."""
    return torch.where(mask, values, 0.0).sum(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all real tokens of a batch: values (B, T), mask (B, T) bool, to a scalar; 0 if there are none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


# --- Maximum likelihood ---------------------------------------------------------------------------------------------


def gather_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability (...) float32 of each token under the logits that predict it.

    Args:
        logits: (..., V), at the positions *before* the tokens.
        tokens: (...) long.
        temperature: the sampling temperature; training must divide by it too, or it sees another policy.
    """
    flat = logits.reshape(-1, logits.shape[-1]).float() / temperature
    return -F.cross_entropy(flat, tokens.reshape(-1), reduction="none").view(tokens.shape)


def mle_loss(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood in nats per token: logprobs (B, T), mask (B, T) bool, to a scalar.

    Its gradient is -E[grad log pi(y|x)] over the answers in the data.
    """
    return -masked_mean(logprobs, mask)


# --- Policy gradient ------------------------------------------------------------------------------------------------


def policy_gradient_loss(logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Negative surrogate whose gradient is REINFORCE's: -mean over sequences of A(x, y) log pi(y|x).

    With A = r(x, y) - b(x), the expected gradient is that of the expected reward for any baseline b(x), since
    E[grad log pi] = 0; a baseline near the expected reward lowers its variance. With A = 1 everywhere and answers
    from data this is maximum likelihood; with A = 1 and answers from the policy the expected gradient is zero.

    Args:
        logprobs: (B, T) of the sampled tokens under the policy.
        advantages: (B,), one per sequence; no gradient flows through them.
        mask: (B, T) bool.

    Reference: Williams 1992, theorem 1; Sutton et al. 1999, theorem 1.
    """
    return -(advantages.detach() * masked_sum(logprobs, mask)).mean()


def advantages_over_baseline(scores: Tensor, baselines: Tensor) -> Tensor:
    """REINFORCE's advantages r(x, y) - b(x): scores (B,), baselines (B,) that depend only on the prompt, to (B,)."""
    return scores - baselines.detach()


def rloo_advantages(scores: Tensor) -> Tensor:
    """Each answer's score minus the mean score of the other answers to the same prompt.

    The other scores don't depend on the answer, so their mean is a baseline b(x) that needs no value function.

    Args:
        scores: (N, K), K answers to each of N prompts.

    Raises:
        ConfigError: each prompt has only one answer.

    Reference: Kool et al. 2019; Ahmadian et al. 2024 (2402.14740), equation 8.
    """
    answers = scores.shape[1]
    if answers < 2:
        raise ConfigError(
            "rloo compares answers to one prompt", got=answers, expected="answers_per_prompt of 2 or more"
        )
    others = (scores.sum(dim=1, keepdim=True) - scores) / (answers - 1)
    return scores - others


# --- PPO ------------------------------------------------------------------------------------------------------------


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL estimate log pi(y|x) - log pi_ref(y|x) of each sequence: unbiased, but sometimes negative.

    Args:
        logprobs, reference_logprobs: (B, T) under the sampling policy and under the reference.
        mask: (B, T) bool, response tokens only.

    Returns:
        (B,) nats per sequence.
    """
    return masked_sum(logprobs - reference_logprobs, mask)


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL estimate that is unbiased and never negative: the sum over tokens of (r - 1) - log r, with r = pi_ref / pi.

    Shapes as for `kl_k1`. Reference: Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = torch.where(mask, reference_logprobs - logprobs, 0.0)
    return (torch.expm1(log_ratio) - log_ratio).sum(dim=-1)


def kl_pull(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> Tensor:
    """A loss that pulls each token towards the reference: half the squared log-ratio, a mean over real tokens (scalar).

    Its gradient, (log pi - log pi_ref) grad log pi, is in expectation over the policy's own tokens that of
    KL(pi || pi_ref) at each state. In a reward, a token answers for the log-ratios of all that follow too, which are
    mostly noise. What the pull leaves out is to which states a token leads.

    Args:
        logprobs: (B, T) under the policy being trained.
        reference_logprobs: (B, T); no gradient flows through them.
        mask: (B, T) bool.

    Reference: Schulman 2020, "Approximating KL divergence" (k2).
    """
    return 0.5 * masked_mean((logprobs - reference_logprobs.detach()).square(), mask)


def rewards_with_kl(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, kl_coefficient: float
) -> Tensor:
    """Per-token rewards: the KL penalty at every token, plus the score at the last real one.

    Summed over a sequence this is R(x, y) = r(x, y) - beta log(pi(y|x) / pi_ref(y|x)).

    Args:
        scores: (B,) of whole answers.
        logprobs, reference_logprobs: (B, T), as for `kl_k1`.
        mask: (B, T) bool, padded on the right, at least one real token per row.
        kl_coefficient: beta.

    Returns:
        (B, T), 0 at padding.

    Reference: Ziegler et al. 2019 (1909.08593), equation 2.
    """
    rewards = torch.where(mask, -kl_coefficient * (logprobs - reference_logprobs), 0.0)
    last = mask.long().sum(dim=1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates and returns; the value after the last real token is 0.

    Args:
        rewards: (B, T).
        values: (B, T), of the state before each token.
        mask: (B, T) bool, padded on the right.
        gamma: discount, in [0, 1].
        lam: 1 gives reward-to-go minus value, 0 the one-step TD error.

    Returns:
        advantages (B, T) and returns (B, T) = advantages + values, 0 at padding.

    Reference: Schulman et al. 2015 (1506.02438), equation 16.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        error = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(mask[:, t], error + gamma * lam * next_advantage, 0.0)
        next_value = values[:, t]
        advantages[:, t] = next_advantage
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor, *, center: bool = True) -> Tensor:
    """Scale real tokens to standard deviation 1 and, with `center`, mean 0: (B, T), mask (B, T) bool, to (B, T).

    Advantages are centred. Rewards must not be: their sign says whether an answer was better than nothing.
    Constant values are only centred.
    """
    values = torch.where(mask, values, 0.0)
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    deviation = torch.where(variance > 1e-12, variance, 1.0).sqrt()
    return torch.where(mask, (values - mean) / deviation if center else values / deviation, 0.0)


def clipped_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_ratio: float
) -> tuple[Tensor, Tensor]:
    """PPO's clipped loss: a token gains nothing from a ratio beyond 1 +- `clip_ratio`.

    Args:
        logprobs, old_logprobs: (B, T) under the policy being trained, and under the one that sampled.
        advantages: (B, T).
        mask: (B, T) bool.
        clip_ratio: epsilon.

    Returns:
        loss (scalar, mean over real tokens) and the share of real tokens that are clipped (scalar).

    Reference: Schulman et al. 2017 (1707.06347), equation 7.
    """
    ratio = torch.where(mask, logprobs - old_logprobs.detach(), 0.0).exp()
    advantages = torch.where(mask, advantages.detach(), 0.0)
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    loss = masked_mean(torch.maximum(free, clipped), mask)
    return loss, masked_mean((clipped > free).float(), mask)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_value: float
) -> tuple[Tensor, Tensor]:
    """Half the squared error of the values, each clipped to within `clip_value` of its value at sampling.

    Args:
        values, old_values: (B, T) of the value function being trained, and at sampling.
        returns: (B, T).
        mask: (B, T) bool.
        clip_value: how far a value may move.

    Returns:
        loss (scalar, mean over real tokens) and the share of real tokens that are clipped (scalar).

    Reference: Huang et al. 2022, "The 37 Implementation Details of PPO", detail 9.
    """
    values, old_values, returns = (torch.where(mask, part, 0.0) for part in (values, old_values, returns))
    old_values, returns = old_values.detach(), returns.detach()
    clipped_values = old_values + (values - old_values).clamp(-clip_value, clip_value)
    free, clipped = (values - returns).square(), (clipped_values - returns).square()
    return 0.5 * masked_mean(torch.maximum(free, clipped), mask), masked_mean((clipped > free).float(), mask)


def adapted_kl_coefficient(
    kl_coefficient: float, kl_nats: float, *, target_nats: float, sequences: int, horizon_sequences: int
) -> float:
    """The next KL coefficient: a proportional controller of its logarithm, which acts within a run.

    Args:
        kl_coefficient: the current beta.
        kl_nats: mean KL of the latest sequences, over response tokens.
        target_nats: the KL to aim for.
        sequences: how many sequences were sampled since the last update.
        horizon_sequences: the number of sequences over which an error of 100% changes beta by a factor of e.

    Reference: Ziegler et al. 2019 (1909.08593), section 2.2.
    """
    error = min(1.0, max(-1.0, kl_nats / target_nats - 1.0))
    return kl_coefficient * math.exp(error * sequences / horizon_sequences)
