"""ROUGE, worked out by hand."""

from __future__ import annotations

import pytest

from training.evaluation.rouge import rouge


def test_by_hand() -> None:
    """Three of four words match, two of three bigrams, and a common subsequence of three."""
    found = rouge(["the tea is cold"], ["the tea is hot"])
    assert found == {"rouge1": pytest.approx(0.75), "rouge2": pytest.approx(2 / 3), "rougeL": pytest.approx(0.75)}


def test_words_are_stemmed_and_cased_alike() -> None:
    """`Boils` and `boiling` are one word, whatever their case."""
    assert rouge(["Boils"], ["boiling"]) == {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 1.0}


def test_an_empty_answer_shares_nothing_and_nothing_is_none() -> None:
    """The mean is over all answers; without answers there is no mean."""
    found = rouge(["", "cold tea"], ["cold tea", "cold tea"])
    assert found == {"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5}
    assert rouge([], []) is None
