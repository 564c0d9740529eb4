"""The models of the check: tiny ones to compare numbers on, and two real shapes with random weights for speed."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from training.config import TextConfig
from training.models import TextCodec

VOCABULARY = 40
END, PAD = VOCABULARY - 1, VOCABULARY - 2

_TINY = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.15,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
_GPT2_SMALL = {"vocab_size": 50257, "eos_token_id": 50256, "bos_token_id": 50256}
_LLAMA_1B = {
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "bos_token_id": 128000,
    "eos_token_id": 128255,
}
SHAPES = {"GPT-2 small": ("gpt2", _GPT2_SMALL), "Llama 1B": ("llama", _LLAMA_1B)}
SMOKE_SHAPES = {"tiny GPT-2": ("gpt2", _TINY), "tiny Llama": ("llama", _TINY)}


def tiny_models() -> dict[str, Any]:
    """Random models of a few architectures that differ in mask, positions, heads and what becomes of logits."""
    found = {}
    for name in ("gpt2", "llama", "gemma2", "gpt_neox", "bloom"):
        found[name] = random_model(name, _TINY, torch.device("cpu"))
    return found


def random_model(architecture: str, settings: dict[str, Any], device: torch.device) -> Any:
    """A model with random weights that bfloat16 holds exactly, as if they had been published in it."""
    torch.manual_seed(0)
    changes = {"num_key_value_heads": 4} if architecture == "gpt_neox" else {}
    config = AutoConfig.for_model(architecture, **{**settings, **changes})
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for value in model.parameters():
        value.data = value.data.bfloat16().float()
    return model.requires_grad_(requires_grad=False)


def tiny_codec() -> TextCodec:
    """The codec of the tiny models."""
    return word_codec(VOCABULARY, END)


def word_codec(vocabulary: int, end: int) -> TextCodec:
    """A codec whose token number n is the word `wn`, of which `end` ends a text."""
    words = {f"w{index}": index for index in range(vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))  # noqa: S106  # a word, not a password
    tokenizer.pre_tokenizer = WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"w{end}")
    return TextCodec(wrapped, TextConfig(max_prompt_tokens=64, max_answer_tokens=64))
