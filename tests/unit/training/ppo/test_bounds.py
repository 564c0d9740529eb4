"""The bounds within which a policy must stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.config import PPOConfig
from training.errors import DivergedError
from training.evaluation.policy import PolicyEvaluation
from training.ppo.baseline import Baseline
from training.ppo.bounds import check_bounds

BASE = Baseline(answer_tokens=20.0, entropy_nats=2.0, similarity=0.1)
FOUND = PolicyEvaluation(kl_nats=5.0, repetition=0.1, similarity=0.2, entropy_nats=1.0)


def test_within_all_bounds() -> None:
    """A policy like the base passes, and so does one that nothing was measured of."""
    check_bounds(FOUND, BASE, PPOConfig())
    check_bounds(PolicyEvaluation(), BASE, PPOConfig())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kl_nats": 21.0}, "at most 20 .max_kl_nats_per_token = 1.0"),
        ({"kl_nats": float("nan")}, "NaN or infinite"),
        ({"repetition": 0.95}, "answers repeat themselves"),
        ({"similarity": 0.5}, "answers different prompts alike.*share 50% of their bigrams, the base's 10%"),
        ({"entropy_nats": 0.05}, "hardly varies its answers"),
    ],
)
def test_each_bound_is_named(change: dict[str, float], words: str) -> None:
    """The error says what was broken, by how much, and what was allowed."""
    with pytest.raises(DivergedError, match=words):
        check_bounds(replace(FOUND, **change), BASE, PPOConfig())  # type: ignore[arg-type]  # one field of its own type


def test_a_limit_in_nats_overrules_the_one_per_token() -> None:
    """It is the same for short and long answers."""
    with pytest.raises(DivergedError, match="max_kl_nats = 4"):
        check_bounds(FOUND, BASE, PPOConfig(max_kl_nats=4.0))
