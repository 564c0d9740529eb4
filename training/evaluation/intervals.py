"""Confidence intervals of measured shares."""

from __future__ import annotations

import math

_Z_95 = 1.959963984540054


def accuracy_with_interval(right: float, total: int) -> tuple[float | None, tuple[float, float]]:
    """A share and its 95% Wilson interval; None and [0, 1] if nothing was measured.

    Args:
        right: how many cases were right or won; a tie may count half.
        total: how many cases there were.

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if total == 0:
        return None, (0.0, 1.0)
    share = right / total
    spread = _Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return share, (max(0.0, middle - reach), min(1.0, middle + reach))
