"""Create a folder with GPT-2 small (random weights) and a word-level tokenizer: `make_model.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.workload import END


def main() -> None:
    """Write the folder unless it already exists."""
    folder = Path(sys.argv[1])
    if (folder / "model.safetensors").exists():
        return
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))
    model.save_pretrained(folder)
    words = {f"w{token}": token for token in range(END)} | {"<|endoftext|>": END}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))  # noqa: S106 - a word, not a password
    tokenizer.pre_tokenizer = WhitespaceSplit()
    end = {f"{kind}_token": "<|endoftext|>" for kind in ("eos", "bos", "pad")}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=1024, unk_token="w0", **end)  # noqa: S106
    wrapped.save_pretrained(folder)


if __name__ == "__main__":
    main()
