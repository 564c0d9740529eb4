"""How the learning rate moves over a run."""

from __future__ import annotations

import math


def warmup_then_cosine(step: int, total_steps: int, warmup_share: float) -> float:
    """The learning rate of step `step` (from 0) as a factor: a linear warm-up, then half a cosine down to 0.

    It is never 0 itself, so that every step teaches something.
    """
    warmup = warmup_share * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total_steps - warmup)))


def warmup_then_line(step: int, total_steps: int, warmup_share: float) -> float:
    """The learning rate of step `step` (from 0) as a factor: a linear warm-up, then a straight line towards 0.

    The warm-up matters to Adam, whose first steps are as long as the learning rate whatever the gradient.
    """
    warmup = warmup_share * total_steps
    return min(1.0, (step + 1) / (warmup + 1)) * (1 - step / total_steps)
