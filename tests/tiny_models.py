"""Models small enough to train within a test."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY = 40
EOS = VOCABULARY - 1
PAD = VOCABULARY - 2


def tiny_gpt2(seed: int = 0, *, n_layer: int = 4, n_embd: int = 32, vocabulary: int = VOCABULARY) -> Any:
    """A GPT-2 with random weights, large enough that its layers and positions matter to the output."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=64,
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=2,
        initializer_range=0.15,
        bos_token_id=vocabulary - 1,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    return model.eval()


def nudge(parameters: Any, seed: int = 1, scale: float = 0.05) -> None:
    """Move weights a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in parameters:
            value += scale * torch.randn(value.shape, generator=generator)
