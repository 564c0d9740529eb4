"""Learning-rate schedules."""

from __future__ import annotations

import math


def warmup_then_cosine(step: float, total_steps: int, warmup_share: float) -> float:
    """The learning-rate factor at `step` (from 0): linear warm-up, then cosine decay towards 0.

    It never reaches 0, so every step has an effect.
    """
    warmup = warmup_share * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total_steps - warmup)))


def warmup_then_line(step: int, total_steps: int, warmup_share: float) -> float:
    """The learning-rate factor at `step` (from 0): linear warm-up, then linear decay towards 0.

    Warm-up matters for Adam, whose first steps are as large as the learning rate whatever the gradient.
    """
    warmup = warmup_share * total_steps
    return min(1.0, (step + 1) / (warmup + 1)) * (1 - step / total_steps)
