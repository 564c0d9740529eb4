"""Both engines, on every architecture in the matrix: equal to the model without a cache, in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, VOCABULARY
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from training.models.text import pad_left
from training.sampling.decoders import Engine
from training.sampling.openvino_decoder import OpenVINOEngine
from training.sampling.torch_decoder import TorchEngine

PROMPTS = [[3], [5, 1, 4, 1, 5, 9, 2, 6, 7, 3, 2], [7, 7, 7]]
WINDOW = 6  # shorter than the longest prompt

_IDS: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD}
_GPT2 = {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
_OLDER = {
    **_IDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_LLAMA = {**_OLDER, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
_LAYER_TYPES = ["sliding_attention", "full_attention"]
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bloom": {**_IDS, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "falcon": _OLDER,
    "gemma2": {**_LLAMA, "sliding_window": WINDOW, "layer_types": _LAYER_TYPES},
    "gemma3_text": {**_LLAMA, "sliding_window": WINDOW, "layer_types": _LAYER_TYPES},
    "gpt2": _GPT2,
    "gpt_neox": {**_OLDER, "intermediate_size": 48},
    "granite": _LLAMA,
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": WINDOW},
    "olmo2": _LLAMA,
    "opt": {**_OLDER, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2},
    "phi3": {**_LLAMA, "sliding_window": WINDOW},
    "qwen2": {**_LLAMA, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "qwen3": _LLAMA,
    "smollm3": {**_LLAMA, "num_hidden_layers": 4},
    "stablelm": _LLAMA,
}


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def model(request: pytest.FixtureRequest) -> Any:
    """A random model of each architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(request.param, **ARCHITECTURES[request.param])
        return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
def _without_cache(model: Any, sequences: list[list[int]]) -> Tensor:
    return torch.stack([model(torch.tensor([sequence])).logits[0, -1] for sequence in sequences])


@pytest.mark.parametrize("kind", [OpenVINOEngine, TorchEngine])
def test_every_step_equals_the_model_without_a_cache(model: Any, kind: Any) -> None:
    """Prompts of several lengths, two answers each, beyond the sliding window, and after most rows are dropped."""
    engine: Engine = kind(model, "float32") if kind is OpenVINOEngine else kind(model)
    ids, mask = pad_left(PROMPTS, PAD)
    with torch.no_grad():
        decoder = engine.start(ids, mask, copies=2)
        sequences = [list(prompt) for prompt in PROMPTS for _ in range(2)]
        for step in range(9):
            torch.testing.assert_close(decoder.logits, _without_cache(model, sequences), atol=1e-4, rtol=1e-4)
            if step == 4:
                decoder.keep(torch.tensor([5, 0, 2]))
                sequences = [sequences[row] for row in (5, 0, 2)]
            tokens = (torch.arange(len(sequences)) * 5 + step * 7 + 3) % (VOCABULARY - 2)
            sequences = [[*sequence, token] for sequence, token in zip(sequences, tokens.tolist(), strict=True)]
            decoder.advance(tokens)
