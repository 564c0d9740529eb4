"""Each prompt stays in its part of the data permanently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.split import split_of
from training.data.types import Split


def test_the_split_of_known_prompts_never_changes() -> None:
    """These assignments are permanent; a change would move test prompts into training."""
    expected = {"train": {0, 4, 7, 8, 9, 11}, "selection": {2, 10}, "test": {1, 3, 5, 6}}
    for split, numbers in expected.items():
        assert {number for number in range(12) if split_of(f"prompt {number}") == split} == numbers


def test_the_split_has_its_shares() -> None:
    """Of 10,000 prompts, 70%, 15% and 15% fall into the three parts, within three standard deviations."""
    found = [split_of(f"question number {number}") for number in range(10_000)]
    assert found.count(Split.TRAIN) == pytest.approx(7000, abs=140)
    assert found.count(Split.SELECTION) == pytest.approx(1500, abs=108)


@given(st.text(), st.sampled_from(["\n", "  ", "\t"]))
def test_layout_does_not_move_a_prompt(prompt: str, space: str) -> None:
    """Extra whitespace around and between words leaves the split as it was."""
    assert split_of(space + space.join(prompt.split()) + space) == split_of(prompt)
