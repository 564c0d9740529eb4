"""Lower bounds on the time the work can take: its arithmetic at the measured speed of large matrix products.

Decoding also reads weights and cache for each token. Attention's own products, norms, activations and the optimizer are
left out, so no implementation reaches a floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import workload

_HIDDEN, _LAYERS = 768, 12
_BLOCK = 12 * _HIDDEN * _HIDDEN  # weights of a block's products
_HEAD = _HIDDEN * workload.VOCABULARY
_TRAINED_IN_PPO, _OWN_IN_REWARD = 8, 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The measured speeds of matrix products in the faster number format, and of reading memory."""

    gflops: float
    read_gb_s: float
    bytes_per_weight: int

    def seconds(self, operations: float, read_bytes: float = 0.0) -> float:
        """The time of the slower of the two."""
        return max(operations / (self.gflops * 1e9), read_bytes / (self.read_gb_s * 1e9))


def propose(limits: Limits) -> float:
    """Seconds for 16 prompts x 2 answers x 50 tokens."""
    lengths = [len(prompt) for prompt in workload.proposal_prompts()]
    return _decode(limits, lengths, workload.ANSWERS)


def reward_step(limits: Limits, tokens: float) -> float:
    """Seconds for one optimizer step on `tokens` real tokens, including its share of the trunk's single pass."""
    trunk = 2 * (_LAYERS - _OWN_IN_REWARD) * _BLOCK * tokens / workload.REWARD_EPOCHS
    return limits.seconds(trunk + 6 * _OWN_IN_REWARD * _BLOCK * tokens)


def ppo_iteration(limits: Limits) -> float:
    """Seconds for one PPO iteration: sampling, one pass of every model, four epochs on the policy's top layers."""
    answers = workload.PROMPTS * workload.NEW_TOKENS
    tokens = workload.PROMPTS * workload.PPO_PROMPT_TOKENS + answers
    sampling = _decode(limits, [workload.PPO_PROMPT_TOKENS] * workload.PROMPTS, 1)
    reading = 2 * (_LAYERS + _TRAINED_IN_PPO + _OWN_IN_REWARD) * _BLOCK * tokens + 2 * 2 * _HEAD * answers
    learning = 6 * _TRAINED_IN_PPO * _BLOCK * tokens + 4 * _HEAD * answers
    return sampling + limits.seconds(reading + workload.PPO_EPOCHS * learning)


def _decode(limits: Limits, lengths: list[int], copies: int) -> float:
    rows, prompt_tokens = len(lengths) * copies, sum(lengths)
    seconds = limits.seconds(2 * (_LAYERS * _BLOCK * prompt_tokens + _HEAD * len(lengths)))
    weights = (_LAYERS * _BLOCK + _HEAD) * limits.bytes_per_weight
    for step in range(1, workload.NEW_TOKENS):
        cached = copies * (prompt_tokens + step * len(lengths)) * 2 * _LAYERS * _HIDDEN * limits.bytes_per_weight
        seconds += limits.seconds(2 * (_LAYERS * _BLOCK + _HEAD) * rows, weights + cached)
    return seconds
