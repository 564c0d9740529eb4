"""The bounds within which a policy must stay; beyond them the last one that was within them is kept."""

from __future__ import annotations

import math
from typing import Protocol

from training.config import PPOConfig
from training.errors import DivergedError
from training.ppo.baseline import Baseline


class Watched(Protocol):
    """What is watched in an iteration and in an evaluation; None where it couldn't be measured."""

    @property
    def kl_nats(self) -> float | None:
        """KL per sequence from the reference."""

    @property
    def repetition(self) -> float | None:
        """How much answers repeat themselves."""

    @property
    def similarity(self) -> float | None:
        """How alike answers to different prompts are."""

    @property
    def entropy_nats(self) -> float | None:
        """Mean entropy per answer token."""


def check_bounds(found: Watched, baseline: Baseline, config: PPOConfig) -> None:
    """Refuse a policy that went too far from its reference, repeats itself, or gives all prompts the same answer.

    Raises:
        DivergedError: it broke a bound, or a figure is NaN or infinite.
    """
    kl_nats, repetition, alike, entropy = found.kl_nats, found.repetition, found.similarity, found.entropy_nats
    if kl_nats is None or repetition is None:
        return
    if not math.isfinite(kl_nats):
        raise DivergedError("log-probs are NaN or infinite", got=kl_nats)
    largest = config.largest_kl(baseline.answer_tokens)
    if kl_nats > largest:
        setting = "max_kl_nats" if config.max_kl_nats else "max_kl_nats_per_token"
        value = config.max_kl_nats or config.max_kl_nats_per_token
        raise DivergedError(
            "the policy moved too far from the base",
            got=f"a KL of {kl_nats:.1f} nats per sequence",
            expected=f"at most {largest:.3g} ({setting} = {value})",
            remedy="Lower ppo.learning_rate, or raise ppo.kl_coefficient.",
        )
    if repetition > config.max_repetition:
        raise DivergedError(
            "answers repeat themselves",
            got=f"{repetition:.0%} of their 4-grams had occurred earlier in the same answer",
            expected=f"at most max_repetition = {config.max_repetition}",
            remedy="The reward model favours repetition: have people judge such answers, or raise ppo.kl_coefficient.",
        )
    if alike is not None and alike > baseline.similarity + config.max_similarity_gain:
        raise DivergedError(
            "the policy answers different prompts alike",
            got=f"answers to two prompts share {alike:.0%} of their bigrams, the base's {baseline.similarity:.0%}",
            expected=f"at most max_similarity_gain = {config.max_similarity_gain} more than the base's",
            remedy="The reward model favours one answer whatever is asked: raise ppo.kl_coefficient, or judge more.",
        )
    if entropy is not None and entropy < config.min_entropy_share * baseline.entropy_nats:
        raise DivergedError(
            "the policy hardly varies its answers any more",
            got=f"an entropy of {entropy:.3f} nats per token, the base's is {baseline.entropy_nats:.3f}",
            expected=f"at least min_entropy_share = {config.min_entropy_share} of the base's",
            remedy="Raise ppo.kl_coefficient, or lower ppo.learning_rate.",
        )
