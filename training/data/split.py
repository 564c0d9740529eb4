"""Assigns each prompt permanently to a part of the data."""

from __future__ import annotations

import hashlib

from training.data.prompts import Prompt, prompt_in_words
from training.data.types import Split

# Never change either: that would move test prompts into training.
_TRAIN_SHARE = 0.70
_SELECTION_SHARE = 0.15


def split_of(prompt: Prompt) -> Split:
    """The part of the data a prompt belongs to: 70% train, 15% selection, 15% test, by a hash of its words.

    Whitespace is ignored, so a reformatted prompt stays where it was.
    """
    words = " ".join(prompt_in_words(prompt).split())
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < _TRAIN_SHARE:
        return Split.TRAIN
    return Split.SELECTION if position < _TRAIN_SHARE + _SELECTION_SHARE else Split.TEST
