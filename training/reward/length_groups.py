"""Sequences of like length together, so that less padding is computed.

Legend: B sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

_WORTH_A_PASS = 192
"""A pass more costs about as much as this many tokens of padding in a model as wide as GPT-2."""


def length_groups(lengths: Sequence[int], worth: int = _WORTH_A_PASS) -> list[list[int]]:
    """Indices of B sequences in groups that are each padded to its own longest.

    The shortest are split off while that spares at least `worth` tokens of padding; the order within a group is that of
    the lengths.
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
