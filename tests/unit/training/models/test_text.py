"""The one template: prompt, separator, answer, end of text; padding and masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import TextConfig
from training.errors import ModelError
from training.models import TextCodec, pad_left, pad_right, position_ids


@pytest.fixture(scope="module")
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's codec."""
    return TextCodec.load(str(tiny_model_dir))


def test_an_answer_survives_encoding_and_decoding(codec: TextCodec) -> None:
    """Encoded text decodes word for word, beyond ASCII too."""
    for answer in ("Put it into boiling water.", "naïve café — 8 € 🥚", "two\nlines"):
        ids = codec.encode_answers([answer])[0]
        assert ids[-1] == codec.eos_id
        assert codec.decode_answer(ids) == answer


def test_a_prompt_ends_with_the_separator(codec: TextCodec) -> None:
    """Prompt and separator together are what the model reads before it answers."""
    ids = codec.encode_prompts(["What is tea?"])[0]
    assert codec.tokenizer.decode(ids) == "What is tea?\n"
    assert codec.eos_id not in ids


def test_decoding_stops_at_the_end_of_text(codec: TextCodec) -> None:
    """Anything after the end of text isn't part of the answer."""
    ids = [*codec.encode_answers(["tea"])[0], *codec.encode_answers(["more"])[0], codec.pad_id]
    assert codec.decode_answer(ids) == "tea"
    assert codec.decode_answer([codec.eos_id]) == ""


def test_the_end_marker_as_text_is_no_end(codec: TextCodec) -> None:
    """A person who types the end-of-text marker types letters, and can't end the sequence early."""
    text = "say <|endoftext|> and <|pad|> please"
    assert codec.eos_id not in codec.encode_prompts([text])[0]
    ids = codec.encode_answers([text])[0]
    assert ids.count(codec.eos_id) == 1
    assert codec.pad_id not in ids


def test_a_long_prompt_is_cut_from_the_left_and_counted(tiny_model_dir: Path) -> None:
    """The end of a long prompt, where the question is, is kept."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(max_prompt_tokens=5))
    whole = TextCodec.load(str(tiny_model_dir)).encode_prompts(["How do I boil an egg in Kyoto?"])[0]
    assert codec.encode_prompts(["How do I boil an egg in Kyoto?"])[0] == whole[-5:]
    assert codec.truncated_prompts == 1
    codec.encode_prompts(["?"])[0]
    assert codec.truncated_prompts == 1


def test_a_long_answer_still_ends(tiny_model_dir: Path) -> None:
    """A truncated answer keeps its end of text, where scores are read."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(max_answer_tokens=4))
    ids = codec.encode_answers(["Leaves in hot water, steeped for minutes."])[0]
    assert len(ids) == 4
    assert ids[-1] == codec.eos_id
    assert codec.truncated_answers == 1


def test_words_after_a_wordy_separator_begin_with_a_space(tiny_model_dir: Path) -> None:
    """After `TL;DR:` the answer's first word is encoded as in running text, and decoded without the space."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(separator="\nTL;DR:"))
    ids = codec.encode_answers(["tea"])[0]
    assert codec.tokenizer.decode(ids[:-1]) == " tea"
    assert codec.decode_answer(ids) == "tea"


@pytest.mark.parametrize("separator", ["", " ", ": ", "\nTL;DR:", "\nTL;DR: "])
def test_the_space_goes_with_the_answers_first_word(tiny_model_dir: Path, separator: str) -> None:
    """With or without a space in the separator, texts are encoded as running text: the space leads a word."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(separator=separator))
    prompt, answer = codec.encode_prompts(["TL;DR:"])[0], codec.encode_answers(["tea"])[0]
    assert codec.tokenizer.decode(prompt) == "TL;DR:" + separator.rstrip()
    assert codec.tokenizer.decode(answer[:-1]) == " tea"


def test_what_is_cut_is_counted_once(tiny_model_dir: Path) -> None:
    """The prompt loses its beginning, then the answer its end but not its end of text; each text counts once."""
    codec = TextCodec.load(str(tiny_model_dir))
    for _ in range(2):
        assert codec.fit("long", "short", ([1, 2, 3, 4], [5, codec.eos_id]), 4) == ([3, 4], [5, codec.eos_id])
    assert (codec.truncated_prompts, codec.truncated_answers) == (1, 0)
    assert codec.fit("long", "too", ([1, 2], [5, 6, 7, codec.eos_id]), 4) == ([2], [5, 6, codec.eos_id])
    assert (codec.truncated_prompts, codec.truncated_answers) == (1, 1)
    assert codec.fit("fits", "too", ([1], [5, codec.eos_id]), 3) == ([1], [5, codec.eos_id])
    assert codec.truncated_prompts == 1


def test_an_empty_prompt_is_still_a_token(tiny_model_dir: Path) -> None:
    """With an empty prompt the model reads one end-of-text token, never nothing."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(separator=""))
    assert codec.encode_prompts([""])[0] == [codec.eos_id]


def test_many_texts_are_encoded_as_one_by_one(codec: TextCodec) -> None:
    """Encoding in batches gives the same result."""
    texts = ["tea", "boil an egg", ""]
    assert codec.encode_prompts(texts) == [codec.encode_prompts([text])[0] for text in texts]
    assert codec.encode_answers(texts) == [codec.encode_answers([text])[0] for text in texts]
    assert codec.encode_prompts([]) == []


def test_a_tokenizer_without_pad_token_pads_with_its_end_token(codec: TextCodec, tiny_model_dir: Path) -> None:
    """GPT-2's own tokenizer has no pad token."""
    from transformers import AutoTokenizer

    assert codec.pad_id != codec.eos_id
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.pad_token = None
    assert TextCodec(tokenizer).pad_id == codec.eos_id


def test_a_missing_model_folder_is_named(tmp_path: Path) -> None:
    """The error names the folder and says what was expected there."""
    with pytest.raises(ModelError, match=r"nowhere.*tokenizer\.json"):
        TextCodec.load(str(tmp_path / "nowhere"))


def test_padding_marks_real_tokens() -> None:
    """Masks are True exactly at real tokens, on either side."""
    ids, mask = pad_right([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    ids, mask = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]


def test_positions_count_real_tokens_only() -> None:
    """Padding on the left doesn't shift a prompt's positions."""
    _, mask = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
    _, mask = pad_right([[5, 6], [8]], pad_id=0)
    assert position_ids(mask).tolist() == [[0, 1], [0, 0]]
