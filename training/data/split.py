"""Which part of the data a prompt belongs to, for life."""

from __future__ import annotations

import hashlib

from training.data.types import Split

# Frozen for life: changing either moves prompts that were tested on into training.
_TRAIN_SHARE = 0.70
_SELECTION_SHARE = 0.15


def split_of(prompt: str) -> Split:
    """The part of the data a prompt belongs to: 70% train, 15% selection, 15% test, by a hash of its words.

    Whitespace doesn't count, so a prompt that was only laid out anew stays where it was.
    """
    words = " ".join(prompt.split())
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < _TRAIN_SHARE:
        return Split.TRAIN
    return Split.SELECTION if position < _TRAIN_SHARE + _SELECTION_SHARE else Split.TEST
