"""Two sampled answers to each prompt, with nothing but Transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DEMO_MODEL = str(Path(__file__).parent.parent / "ml_backend" / "demo" / "data" / "model")
SEPARATOR = "\n"


def answer_pairs(model: str, prompts: list[str], seed: int = 0, max_new_tokens: int = 64) -> list[tuple[str, str]]:
    """Sample two answers to each prompt.

    Args:
        model: a folder, or a name on the Hugging Face hub such as gpt2.
        prompts: what to answer.
        seed: the same seed gives the same answers.
        max_new_tokens: the longest answer, in tokens.
    """
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    language_model = AutoModelForCausalLM.from_pretrained(model).eval()
    pairs = []
    for prompt in prompts:
        question = tokenizer(prompt + SEPARATOR, return_tensors="pt", return_attention_mask=True)
        with torch.inference_mode():
            answers = language_model.generate(
                question.input_ids,
                attention_mask=question.attention_mask,
                do_sample=True,
                top_k=50,
                top_p=0.95,
                max_new_tokens=max_new_tokens,
                num_return_sequences=2,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )
        texts = tokenizer.batch_decode(answers[:, question.input_ids.shape[1] :], skip_special_tokens=True)
        pairs.append((texts[0].strip(), texts[1].strip()))
    return pairs
