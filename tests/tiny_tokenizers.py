"""Tokenizers of every kind, trained on a few sentences, and chat templates as models have them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "How do I boil an egg? Put it into boiling water for eight minutes.",
    "What is tea? Leaves in hot water, and nothing else at all.",
    "You are a helpful assistant who answers the user in one short sentence.",
    "the system user assistant model INST says so and so: one two three",
] * 8
SPECIALS = ["<s>", "</s>", "<unk>", "<pad>"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|head|>{{ message.role }}<|/head|>\n\n{{ message.content | trim }}"
    "<|eot|>{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ bos_token + '[INST] ' + message.content | trim + "
    "' [/INST]' }}{% elif message.role == 'assistant' %}{{ ' ' + message.content | trim + ' ' + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST]{{ message.content }}[/INST]"
    "{% elif message.role == 'assistant' %}{{ message.content }}</s>{% else %}"
    "{{ raise_exception('unknown role') }}{% endif %}{% endfor %}"
)
DATED = "{{ 'Today is ' + strftime_now('%d %b %Y') + '.' }}" + CHATML

TEMPLATES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"]),
    "llama3": (LLAMA3, ["<|head|>", "<|/head|>", "<|eot|>"]),
    "llama2": (LLAMA2, []),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"]),
    "mistral": (MISTRAL, ["[INST]", "[/INST]"]),
}
"""Each template, and the special tokens that its tokenizer has beside the common ones."""

KINDS = ("byte-level", "byte-fallback", "unigram")
"""Byte-level BPE; SentencePiece's BPE with byte fallback and a beginning; a Unigram model with Metaspace and one."""


def tiny_tokenizer(kind: str, template: str | None = None, *, unmarked: bool = False) -> Any:
    """A tokenizer of one of `KINDS`, with a chat template of `TEMPLATES` if it is named.

    `unmarked` adds the template's tokens without declaring them special, as some models do.
    """
    source, markers = TEMPLATES[template] if template else (None, [])
    specials = [*SPECIALS, *([] if unmarked else markers)]
    tokenizer = Tokenizer.from_str(_trained(kind, tuple(specials)))
    if unmarked:
        tokenizer.add_tokens([AddedToken(marker, special=False, normalized=False) for marker in markers])
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    found.chat_template = source
    return found


@cache
def _trained(kind: str, specials: tuple[str, ...]) -> str:
    return _TRAINERS[kind](list(specials)).to_str()


def _byte_level(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _byte_fallback(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(vocab_size=620, special_tokens=[*specials, *bytes_], show_progress=False)
    words = [f"▁{word}" for sentence in SENTENCES for word in sentence.split()]
    plain = Tokenizer(BPE())
    plain.train_from_iterator(words, trainer)
    tokenizer.model = _with_fallback(plain)
    tokenizer.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
    tokenizer.post_processor = _beginning(tokenizer)
    return tokenizer


def _with_fallback(trained: Tokenizer) -> BPE:
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    return BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def _unigram(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    trainer = UnigramTrainer(
        vocab_size=200,
        special_tokens=specials,
        unk_token="<unk>",
        initial_alphabet=list("<>|/[]_\n"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = _beginning(tokenizer)
    return tokenizer


def _beginning(tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )


_TRAINERS = {"byte-level": _byte_level, "byte-fallback": _byte_fallback, "unigram": _unigram}
