"""Models small enough to train in a test."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

VOCABULARY = 40
EOS = VOCABULARY - 1
PAD = VOCABULARY - 2


def tiny_gpt2(
    seed: int = 0, *, n_layer: int = 4, n_embd: int = 32, vocabulary: int = VOCABULARY, positions: int = 64
) -> Any:
    """A GPT-2 with random weights, large enough that its layers and positions matter to the output."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
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


def write_tiny_gpt2(folder: Path) -> None:
    """Write a random GPT-2 (3 layers, 32 wide) and a byte-level BPE with an end token and a pad token."""
    bpe = ByteLevelBPETokenizer()
    corpus = [
        "How do I boil an egg?\nPut it into boiling water for eight minutes.",
        "What is tea?\nLeaves in hot water.",
    ]
    bpe.train_from_iterator(corpus * 4, vocab_size=290, min_frequency=2, special_tokens=["<|endoftext|>", "<|pad|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        pad_token="<|pad|>",
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=32,
        n_layer=3,
        n_head=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder, safe_serialization=True)


def write_letter_gpt2(folder: Path) -> None:
    """Write the same model with a token for each letter, so that whatever it samples is text, and stays the same tokens
    when it is read again.
    """
    letters = dict.fromkeys(f"{string.ascii_letters}{string.digits} \n?:.,")
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<|endoftext|>", "<|pad|>", *letters])}, merges=[]))
    bpe.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=3, n_head=2, **ends)
    )
    with torch.no_grad():
        model.transformer.wte.weight *= 10  # a policy that samples uniformly learns nothing
    model.save_pretrained(folder, safe_serialization=True)


def tiny_rotary(architecture: str = "llama", seed: int = 0, *, n_layer: int = 4, **changes: Any) -> Any:
    """A Llama, or another architecture built like it, with fewer heads for keys than for queries."""
    settings = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": n_layer,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.15,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "attention_dropout": 0.5,
        "tie_word_embeddings": False,
    }
    asked = {name: value for name, value in {**settings, **changes}.items() if (name, value) != ("head_dim", None)}
    config = AutoConfig.for_model(architecture, **asked)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    return model.eval()


_ALTERNATING = ["sliding_attention", "full_attention"] * 2
_OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 4, "n_head": 4},
    "codegen": {"rotary_dim": 4},
    "cohere2": {"sliding_window": 4, "layer_types": _ALTERNATING},
    "falcon": {"head_dim": None},
    "gemma2": {"sliding_window": 4, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 4, "layer_types": _ALTERNATING},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 4},
    "gpt_neox": {"num_key_value_heads": 4},
    "gptj": {"rotary_dim": 4},
    "granite": {"logits_scaling": 3.0, "residual_multiplier": 0.7, "embedding_multiplier": 4.0},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 64, "expansion_ratio": 2},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
}
MATRIX = {
    **{
        name: (name, {})
        for name in (
            *(
                "gpt2",
                "llama",
                "mistral",
                "qwen2",
                "qwen3",
                "gemma2",
                "gemma3_text",
                "phi3",
                "olmo2",
                "gpt_neox",
                "opt",
            ),
            *("falcon", "stablelm", "smollm3", "granite", "bloom", "cohere2", "codegen", "gemma", "gpt_neo", "gptj"),
            *("gpt_bigcode", "mpt", "phi", "starcoder2"),
        )
    },
    "falcon, alibi": ("falcon", {"alibi": True}),
    "falcon, new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "opt, projected": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gemma2, uncapped": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
}
"""Architectures by name, with the settings that make them interesting: windows shorter than the texts, caps, scales."""


def tiny_decoder(name: str, seed: int = 0, **changes: Any) -> Any:
    """A tiny random model of any architecture in `MATRIX`."""
    architecture, settings = MATRIX[name]
    return tiny_rotary(architecture, seed, **{**_OTHER_SETTINGS.get(architecture, {}), **settings, **changes})


def nudge(parameters: Any, seed: int = 1, scale: float = 0.05) -> None:
    """Move weights a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in parameters:
            value += scale * torch.randn(value.shape, generator=generator)
