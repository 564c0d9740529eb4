"""The demo model before training: a small GPT-2 with random weights."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

LAYERS, HIDDEN, HEADS, POSITIONS = 4, 192, 6, 256


def new_network(tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 of about 2.4 million parameters, under 10 MB in float32, without dropout (it sees most answers once)."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=HIDDEN,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    network = GPT2LMHeadModel(config)
    network.generation_config.bos_token_id = tokenizer.bos_token_id
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    return network


def sharpen(network: GPT2LMHeadModel, temperature: float) -> None:
    """Change `network` so that sampling at temperature 1 is equivalent to sampling at `temperature` before.

    A small network trained for minutes leaves a little probability on every token, which adds up to a garbled word or
    two per answer. The logits are linear in the last norm's output, so dividing its parameters divides them.
    """
    with torch.no_grad():
        network.transformer.ln_f.weight /= temperature
        network.transformer.ln_f.bias /= temperature
