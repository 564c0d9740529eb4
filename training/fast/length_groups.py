"""Groups sequences of similar length, so that less padding is computed.

Legend: B sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

_WORTH_A_PASS = 192
"""An extra pass costs about as much as this many tokens of padding in a model as wide as GPT-2."""


def length_groups(lengths: Sequence[int], worth: int = _WORTH_A_PASS) -> list[list[int]]:
    """Indices of B sequences in groups, each padded to its longest sequence.

    The shortest are split off while that saves at least `worth` tokens of padding; groups are sorted by length.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    groups: list[list[int]] = []
    while order:
        longest = lengths[order[-1]]
        spared = [count * (longest - lengths[order[count - 1]]) for count in range(len(order))]
        best = max(range(len(order)), key=lambda count: spared[count])
        start = best if spared[best] >= worth else 0
        groups.append(order[start:])
        order = order[:start]
    return groups[::-1]
