"""The demo model's corpus and prompts, and the model that ships with the package."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
import torch
from demo_answers import MAX_WORDS, MIN_WORDS, Quality
from demo_corpus import Example, ask, write_corpus
from demo_network import POSITIONS, new_network, sharpen
from demo_tokenizer import END_OF_TEXT, PAD, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from ml_backend.demo.data.topics import load_topics
from ml_backend.demo.useful import repeated_share, score_answer
from ml_backend.settings import DEMO_MODEL
from training.config import CycleConfig
from training.data.split import split_of
from training.data.types import Split

DEMO_DATA = DEMO_MODEL.parent
SAMPLED_PROMPTS, ANSWERS_EACH = 24, 4


@pytest.fixture(scope="module")
def corpus() -> list[Example]:
    """A small corpus built by the same rules as the model's."""
    return write_corpus(6000, seed=1)


@pytest.fixture(scope="module")
def samples() -> list[tuple[str, str, bool]]:
    """Prompts, answers sampled from the packaged model as in PPO, and whether each ended with the end token."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, local_files_only=True).eval()
    prompts = _lines(DEMO_DATA / "held_out_prompts.txt")[:SAMPLED_PROMPTS]
    tokenizer.padding_side = "left"
    batch = tokenizer([f"{prompt}\n" for prompt in prompts], return_tensors="pt", padding=True)
    torch.manual_seed(0)
    with torch.no_grad():
        ids = model.generate(
            **batch, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=64, num_return_sequences=ANSWERS_EACH
        )
    answers = ids[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    ended = (answers == tokenizer.eos_token_id).any(dim=1).tolist()
    asked = [prompt for prompt in prompts for _ in range(ANSWERS_EACH)]
    return list(zip(asked, texts, ended, strict=True))


def test_there_are_enough_topics_and_every_one_has_its_own_advice() -> None:
    """At least 60 topics, six tips each, and no text is repeated."""
    topics = load_topics()
    assert len(topics) >= 60
    assert all(len(topic.tips) == 6 for topic in topics)
    names = [topic.task for topic in topics] + [topic.doing for topic in topics]
    texts = [text for topic in topics for tip in topic.tips for text in (tip.action, tip.reason)]
    assert [text for text, count in Counter(names + texts).items() if count > 1] == []


def test_a_corpus_has_every_quality_and_no_answer_twice(corpus: list[Example]) -> None:
    """Useful answers are 40 to 46 percent, off-topic ones the fewest with 3 or more, and all answers differ."""
    counts = Counter(example.quality for example in corpus)
    assert 0.40 <= counts[Quality.USEFUL] / len(corpus) <= 0.46
    assert min(counts.values()) == counts[Quality.OFF_TOPIC] >= 0.03 * len(corpus)
    assert all(counts[quality] >= 0.10 * len(corpus) for quality in Quality if quality is not Quality.OFF_TOPIC)
    assert len({example.answer for example in corpus}) == len(corpus)


def test_length_tells_nothing_of_quality(corpus: list[Example]) -> None:
    """Answers of every quality span 8 to 38 words and 1 to 5 sentences, with mean lengths within a fifth of all."""
    overall = mean(_word_count(example) for example in corpus)
    for quality in Quality:
        answers = [example for example in corpus if example.quality is quality]
        words = sorted(_word_count(example) for example in answers)
        sentences = [len(re.findall(r"[.!?](?= |$)", example.answer)) for example in answers]
        assert mean(words) == pytest.approx(overall, rel=0.2)
        assert MIN_WORDS <= words[0] <= 8
        assert 38 <= words[-1] <= MAX_WORDS
        assert set(sentences) >= {1, 2, 3, 4, 5}


def test_the_same_seed_writes_the_same_corpus() -> None:
    """A corpus is reproducible; another seed gives another one."""
    assert write_corpus(200, seed=5) == write_corpus(200, seed=5)
    assert write_corpus(200, seed=5) != write_corpus(200, seed=6)


def test_held_out_questions_are_nowhere_else(corpus: list[Example]) -> None:
    """No held-out question is labeled or in the corpus, and all of a topic's forms are used somewhere."""
    questions = ask()
    held_out = {question.text for question in questions.held_out}
    seen = {question.text for question in questions.seen}
    assert {question.text for question in questions.labeling} <= seen
    assert not held_out & seen
    assert not held_out & {example.prompt for example in corpus}
    assert len(held_out | seen) == 8 * len(load_topics())


def test_packaged_prompts_are_those_of_the_build() -> None:
    """The two files match the build script's output: at least 320 and 100 prompts, none twice."""
    questions = ask()
    labeling, held_out = _lines(DEMO_DATA / "prompts.txt"), _lines(DEMO_DATA / "held_out_prompts.txt")
    assert labeling == [question.text for question in questions.labeling]
    assert held_out == [question.text for question in questions.held_out]
    assert len(set(labeling)) == len(labeling) >= 320
    assert len(set(held_out)) == len(held_out) >= 100


def test_labeled_prompts_fall_into_every_split() -> None:
    """The frozen split leaves enough prompts for selection and test, even among the first hundred labeled."""
    prompts = _lines(DEMO_DATA / "prompts.txt")
    counts = Counter(split_of(prompt) for prompt in prompts)
    assert counts[Split.TRAIN] > 200
    assert counts[Split.SELECTION] > 40
    assert counts[Split.TEST] > 40
    assert min(Counter(split_of(prompt) for prompt in prompts[:100]).values()) >= 5


def test_a_tokenizer_is_reversible_and_survives_saving(tmp_path: Path, corpus: list[Example]) -> None:
    """Any text comes back unchanged, pad and end of text are tokens of their own, even after loading."""
    train_tokenizer((example.answer for example in corpus[:500]), vocabulary=400, longest=64).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "Don't stop, \"Ünïcode\" , isn't  it?\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END_OF_TEXT, PAD)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert len(tokenizer) == 400


def test_a_new_network_knows_its_special_tokens(corpus: list[Example]) -> None:
    """Configuration and generation settings have the tokenizer's ids, and the seed determines the weights."""
    tokenizer = train_tokenizer((example.answer for example in corpus[:200]), vocabulary=300, longest=POSITIONS)
    network, same = new_network(tokenizer, 3), new_network(tokenizer, 3)
    for settings in (network.config, network.generation_config):
        assert settings.eos_token_id == settings.bos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id
    assert torch.equal(network.transformer.wte.weight, same.transformer.wte.weight)


def test_sharpening_is_a_temperature(corpus: list[Example]) -> None:
    """After sharpening by 0.5 the logits are exactly twice what they were."""
    tokenizer = train_tokenizer((example.answer for example in corpus[:200]), vocabulary=300, longest=POSITIONS)
    network = new_network(tokenizer, 3).eval()
    ids = torch.tensor([[5, 17, 42]])
    with torch.no_grad():
        before = network(ids).logits
        sharpen(network, 0.5)
        assert torch.allclose(network(ids).logits, 2 * before, atol=1e-5)


def test_the_packaged_model_loads_offline_and_is_small() -> None:
    """A GPT-2 in float32 with real special tokens, 10 MB in all, with valid training settings of its own."""
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL, local_files_only=True)
    assert isinstance(model, GPT2LMHeadModel)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (model.config.eos_token_id, model.config.pad_token_id)
    assert sum(path.stat().st_size for path in DEMO_MODEL.iterdir()) <= 10_000_000
    assert CycleConfig.for_model(str(DEMO_MODEL)) != CycleConfig()


def test_sampled_answers_end_and_are_made_of_known_words(
    samples: list[tuple[str, str, bool]], corpus: list[Example]
) -> None:
    """Nearly all sampled answers end with the end token, and over 95 percent of their words are in the corpus."""
    assert mean(ended for _, _, ended in samples) >= 0.95
    known = {word for example in corpus for word in _words(f"{example.prompt} {example.answer}")}
    words = [word for _, answer, _ in samples for word in _words(answer)]
    assert mean(word in known for word in words) > 0.95


def test_sampled_answers_are_good_and_bad(samples: list[tuple[str, str, bool]]) -> None:
    """Both kinds occur: many useful answers, many useless ones, and some rude or repetitive ones."""
    scores = [score_answer(prompt, answer) for prompt, answer, _ in samples]
    assert 0.25 <= mean(score > 0.3 for score in scores) <= 0.65
    assert mean(score < 0 for score in scores) >= 0.25
    assert any(score < -1 for score in scores)
    assert any(repeated_share(answer) > 0.2 for _, answer, _ in samples)


def test_packaged_settings_are_overrides_only() -> None:
    """The model's training settings have only known keys, and answers fit into its positions."""
    raw = json.loads((DEMO_MODEL / "rankloop_training.json").read_text(encoding="utf-8"))
    config = CycleConfig.model_validate(raw)
    assert config.text.max_prompt_tokens + config.text.max_answer_tokens <= POSITIONS


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text.lower())


def _word_count(example: Example) -> int:
    return len(example.answer.split())
