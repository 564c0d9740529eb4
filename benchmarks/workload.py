"""The work of every contestant: the same prompts, pairs and lengths, for GPT-2 small's shape and for a real chat model.

Standard library only, so that every environment can read it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

VOCABULARY = 50257
END = VOCABULARY - 1
LLAMA_TOKENS = 48_000  # fewer than the real model's vocabulary

PROMPTS = 16
ANSWERS = 2
NEW_TOKENS = 50
TOP_K, TOP_P = 50, 0.95

PAIRS_PER_STEP = 16
PAIRS = 64
REWARD_EPOCHS = 6  # epochs that share the trunk's single pass
TUTORIAL_LENGTH = 550
TRAINED_SHARE = 0.3

PPO_PROMPT_TOKENS = 30
PPO_EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two answers, in the words of `text_of`."""

    prompt: str
    chosen: str
    rejected: str


def token_lists(lengths: list[int], seed: int) -> list[list[int]]:
    """Random tokens, never the end of text."""
    dice = random.Random(seed)
    return [[dice.randrange(END) for _ in range(length)] for length in lengths]


def text_of(tokens: list[int]) -> str:
    """The text that the benchmark's tokenizer reads as these tokens."""
    return " ".join(f"w{token}" for token in tokens)


def proposal_prompts() -> list[list[int]]:
    """16 prompts of 14 to 44 tokens, 29 on average."""
    return token_lists([14 + 2 * index for index in range(PROMPTS)], seed=1)


def prompts_of(part: str) -> list[list[int]]:
    """The prompts of a part: one for a single pair, else 16; with tokens that the part's model has."""
    found = proposal_prompts()
    if part.endswith("_llama"):
        found = [[token % LLAMA_TOKENS for token in tokens] for tokens in found]
    return found[PROMPTS // 2 :][:1] if part.startswith("pair") else found


def ppo_prompts(count: int, *, llama: bool = False) -> list[list[int]]:
    """Prompts of 30 tokens."""
    found = token_lists([PPO_PROMPT_TOKENS] * count, seed=2)
    return [[token % LLAMA_TOKENS for token in tokens] for tokens in found] if llama else found


def pairs(count: int = PAIRS) -> list[Pair]:
    """Pairs whose sequences have 30 to 70 tokens, 50 on average."""
    dice = random.Random(3)
    found = []
    for index in range(count):
        lengths = [dice.randint(10, 30), dice.randint(20, 39), dice.randint(20, 39)]
        prompt, chosen, rejected = (text_of(part) for part in token_lists(lengths, seed=100 + index))
        found.append(Pair(prompt, chosen, rejected))
    return found
