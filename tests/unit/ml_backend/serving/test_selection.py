"""Which two of several candidates people compare, and that a proposal says how they were chosen."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from ml_backend.labels.annotations import judgements_in
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction
from ml_backend.serving.selection import RANDOM_SHARE, choose_pair, pick
from ml_backend.serving.version import LoadedVersion, load_version
from ml_backend.settings import Selection
from training.data.types import Preference
from training.data.votes import aggregate
from training.errors import ModelError

TEXTS = ["tea", " ", "egg", "tea ", "rain", "sun"]
SCORES = [0.0, 9.0, 1.0, 8.0, 5.0, 1.1]
LIVE = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="First" alias="answer1"/><Choice value="Second" alias="answer2"/>
</Choices></View>"""


def _chosen(selection: Selection, tries: int = 400) -> list[tuple[int, int, str]]:
    found = [choose_pair(TEXTS, SCORES, selection, random.Random(seed)) for seed in range(tries)]
    return [tuple(chosen) for chosen in found if chosen is not None]  # type: ignore[misc]


def test_by_hand() -> None:
    """Blanks and repetitions are left out; far apart are tea (0) and rain (5), closest egg (1.0) and sun (1.1)."""
    assert set(_chosen("random")) == {(0, 2, "random")}
    assert set(_chosen("gap")) == {(0, 2, "random"), (0, 4, "gap")}
    assert set(_chosen("uncertain")) == {(0, 2, "random"), (2, 5, "uncertain")}
    assert set(_chosen("mixed")) == {(0, 2, "random"), (0, 4, "gap"), (2, 5, "uncertain")}


def test_a_share_stays_random() -> None:
    """About a fifth, by the dice alone; of the others mixed takes half each."""
    found = [how for _, _, how in _chosen("mixed", 2000)]
    assert found.count("random") / 2000 == pytest.approx(RANDOM_SHARE, abs=0.03)
    assert found.count("gap") / 2000 == pytest.approx((1 - RANDOM_SHARE) / 2, abs=0.04)


@pytest.mark.parametrize("selection", get_args(Selection))
def test_there_may_be_no_two(selection: Selection) -> None:
    """Two candidates that say something different are needed; scores that are no numbers leave it to chance."""
    assert choose_pair(["tea", "", " tea"], [1.0, 2.0, 3.0], selection, random.Random(1)) is None
    chosen = choose_pair(TEXTS, [float("nan")] * 6, selection, random.Random(1))
    assert chosen == (0, 2, "random")


def test_a_cut_answer_is_shown_only_for_want_of_others() -> None:
    """Of three candidates the cut one is left out; where only one isn't cut, it is compared with a cut one."""
    dice = random.Random(3)
    drawn = [("tea", True), ("egg", False), ("sun", False)]
    assert pick(drawn, [9.0, 1.0, 2.0], "gap", dice)[:2] == (drawn[1], drawn[2])
    drawn = [("tea", True), ("egg", False), ("egg", False)]
    assert set(pick(drawn, [9.0, 1.0, 1.0], "gap", dice)[:2]) == {drawn[0], drawn[1]}


def test_how_a_pair_was_chosen_travels_with_the_judgement() -> None:
    """It is in the proposal's regions, comes back with the annotation, and is kept with the preference."""
    config = parse_label_config(LIVE)
    shown = live_prediction(config, "hot leaves", "an egg", "v1", how="gap")["result"]
    verdict = {
        "type": "choices",
        "from_name": "better",
        "to_name": "question",
        "value": {"choices": ["answer1"]},
    }
    task = {"id": 1, "data": {"prompt": "What is tea?"}}
    judgements = judgements_in({"id": 2, "result": [*shown, verdict]}, task, config, 7)
    assert isinstance(judgements, list)
    (preference,) = aggregate(judgements)
    assert isinstance(preference, Preference)
    assert preference.source.selection == "gap"
    plain = live_prediction(config, "hot leaves", "an egg", "v1")["result"]
    judgements = judgements_in({"id": 2, "result": [*plain, verdict]}, task, config, 7)
    assert isinstance(judgements, list)
    assert judgements[0].selection is None


class _Longest:
    """A reward model that scores by the number of letters, or fails."""

    temperature = 1.0

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    @property
    def model(self) -> Any:
        """Itself."""
        if self.fails:
            raise ModelError("the reward model is away")
        return self

    def score_texts(self, _codec: Any, _prompts: Any, texts: list[str]) -> torch.Tensor:
        """The number of letters."""
        return torch.tensor([float(len(text)) for text in texts])


@pytest.fixture
def version(version_folders: dict[str, Path], settings: Any) -> LoadedVersion:
    """A loaded version that draws four candidates."""
    name, folder = next(iter(version_folders.items()))
    changed = settings.model_copy(update={"selection": "gap", "candidates": 4})
    return replace(load_version(name, folder, changed), scorer=_Longest())  # type: ignore[arg-type]


def test_a_version_chooses_among_its_candidates(version: LoadedVersion) -> None:
    """Answers chosen by gap differ more in length than those drawn; the same key gets the same pair again."""
    questions = [(f"task {number}", "What is tea?") for number in range(30)]
    pairs = version.propose(questions)
    assert pairs == version.propose(questions)
    assert {pair.how for pair in pairs} == {"gap", "random"}
    gaps = [abs(len(pair.answer1) - len(pair.answer2)) for pair in pairs if pair.how == "gap"]
    others = replace(version, selection="random").propose(questions)
    assert {pair.how for pair in others} == {None}
    drawn = [abs(len(pair.answer1) - len(pair.answer2)) for pair in others]
    assert sum(gaps) / len(gaps) > sum(drawn) / len(drawn)


def test_without_a_working_reward_model_pairs_are_random(version: LoadedVersion) -> None:
    """The base has none, and one that can't be loaded doesn't cost people their proposals."""
    questions = [("task 1", "What is tea?")]
    assert replace(version, scorer=None).propose(questions)[0].how is None
    broken = replace(version, scorer=_Longest(fails=True))  # type: ignore[arg-type]
    assert broken.propose(questions)[0].how == "random"
