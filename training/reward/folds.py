"""Parts for cross-validation: every pair is scored by a model that never saw its prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data import Preference, prompt_in_words

PROMPTS_TO_SPARE_A_PART = 400
"""With fewer judged prompts, a fifth of them would make no judge worth asking, and the reward model would miss them."""


@dataclass(frozen=True, slots=True)
class Folds:
    """Which part each pair belongs to.

    parts: (N,) long, from 0 to `count` - 1.
    groups: (N,) long, the same number for pairs that always share a part: those of one prompt, or of equal answers.
    count: how many parts there are.
    by_prompt: whether whole prompts are held out. With fewer prompts than parts, pairs are, and pairs of one prompt may
        lie on both sides: what is measured then is how well the model does on known prompts.
    """

    parts: Tensor
    groups: Tensor
    count: int
    by_prompt: bool

    def apart(self) -> Tensor:
        """(N,) bool, the pairs that only judges of policies learn from: the last part, or where there are too few
        prompts to spare one, none.
        """
        prompts = int(self.groups.max()) + 1 if len(self.groups) else 0
        enough = self.by_prompt and self.count > 2 and prompts >= PROMPTS_TO_SPARE_A_PART
        return self.parts == self.count - 1 if enough else torch.zeros(len(self.parts), dtype=torch.bool)


def folds_of(preferences: Sequence[Preference], count: int, seed: int) -> Folds:
    """Deal pairs to at most `count` parts of about the same size, in an order that depends on the seed alone.

    Args:
        preferences: the pairs.
        count: how many parts are wanted; with fewer prompts or pairs than that, there are fewer.
        seed: another one gives other parts.
    """
    prompts = [" ".join(prompt_in_words(pair.prompt).split()) for pair in preferences]
    by_prompt = len(set(prompts)) >= count
    keys = prompts
    if not by_prompt:  # the same two answers stay together, or a model would be tested on what it learned
        texts = [sorted((pair.chosen, pair.rejected)) for pair in preferences]
        keys = ["\n\n".join([prompt, *both]) for prompt, both in zip(prompts, texts, strict=True)]
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    count = min(count, len(sizes))
    filled, part_of = [0] * count, {}
    for key in sorted(sizes, key=lambda text: _draw(text, seed)):
        part_of[key] = filled.index(min(filled))
        filled[part_of[key]] += sizes[key]
    number_of = {key: number for number, key in enumerate(sizes)}
    return Folds(
        parts=torch.tensor([part_of[key] for key in keys], dtype=torch.long),
        groups=torch.tensor([number_of[key] for key in keys], dtype=torch.long),
        count=count,
        by_prompt=by_prompt,
    )


def _draw(text: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\n{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
