"""One bad item in a batch: who gets answers, and who is to blame if nobody does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from ml_backend.labels.config import parse_label_config
from ml_backend.serving.predictions import predictions_of
from ml_backend.serving.salvage import salvaged
from ml_backend.serving.version import AnswerPair

LIVE = """<View><Text name="prompt" value="$prompt"/>
<TextArea name="answer1" toName="prompt"/><TextArea name="answer2" toName="prompt"/>
<Choices name="verdict" toName="prompt"><Choice value="answer1"/><Choice value="answer2"/></Choices></View>"""


def _halved(items: Sequence[int]) -> list[float]:
    """Twice each item; a batch with a negative one fails as a whole."""
    if any(item < 0 for item in items):
        raise ValueError("negative")
    return [2.0 * item for item in items]


@pytest.mark.parametrize("bad", [[], [0], [6], [2, 3], [0, 1, 2, 4, 5, 6]])
def test_only_bad_items_get_the_substitute(bad: list[int]) -> None:
    """Wherever they stand in the batch, the others get their results, in order."""
    items = [-1 if index in bad else index for index in range(7)]
    assert salvaged(_halved, items, lambda _: -0.5) == [-0.5 if item < 0 else 2.0 * item for item in items]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_if_all_fail_the_items_are_not_to_blame(size: int) -> None:
    """A model that fails on everything is a fault, not a batch of bad items."""
    with pytest.raises(ValueError, match="negative"):
        salvaged(_halved, [-1] * size, lambda _: math.nan)


def test_an_empty_batch_stays_empty() -> None:
    """Nothing in, nothing out."""
    assert salvaged(_halved, [], lambda _: math.nan) == []


class Half:
    """A version that fails on one prompt, and on the scores of its answers."""

    name = "m-v2"
    judges = True

    def propose(self, questions: Sequence[tuple[str, str]]) -> list[AnswerPair]:
        """An empty pair stands for a failure."""
        return [
            AnswerPair("", "", self.name) if prompt == "poison" else AnswerPair("One.", "Two.", self.name)
            for _, prompt in questions
        ]

    def log_odds(self, answers: Sequence[tuple[str, str]]) -> list[float]:
        """NaN stands for a failure."""
        return [math.nan if prompt == "poison" else float(len(answer)) for prompt, answer in answers]


def test_a_poisonous_task_gets_an_empty_prediction_of_this_version() -> None:
    """So it isn't asked about again until there is another version; the tasks around it get their answers."""
    tasks = [{"id": n, "data": {"prompt": prompt}} for n, prompt in enumerate(["tea?", "poison", "eggs?"])]
    predictions = predictions_of(tasks, parse_label_config(LIVE), Half())  # type: ignore[arg-type]
    assert [len(prediction["result"]) for prediction in predictions if prediction] == [2, 0, 2]
    assert {prediction["model_version"] for prediction in predictions if prediction} == {"m-v2"}


def test_answers_that_cannot_be_scored_are_not_preselected() -> None:
    """A pairwise task whose answers have no score gets no verdict, rather than a wrong one."""
    config = parse_label_config(
        '<View><Text name="prompt" value="$prompt"/><Pairwise name="comparison" toName="a,b"/>'
        '<Text name="a" value="$a"/><Text name="b" value="$b"/></View>'
    )
    tasks = [{"id": n, "data": {"prompt": prompt, "a": "Short.", "b": "Longer."}} for n, prompt in enumerate("tp")]
    tasks[1]["data"]["prompt"] = "poison"  # type: ignore[index]
    predictions = predictions_of(tasks, config, Half())  # type: ignore[arg-type]
    assert [len(prediction["result"]) for prediction in predictions if prediction] == [1, 0]
