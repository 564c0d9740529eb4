"""What stored predictions say beside their answers: how close the call is, and the round."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from judged_project import LABEL_CONFIG

from ml_backend.labels.annotations import judgements_in
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction
from ml_backend.serving.marks import with_rounds, with_scores
from training.errors import ModelError

LIVE = parse_label_config(LABEL_CONFIG)


@dataclass
class _Version:
    """A version whose reward model likes long answers: a unit of log-odds for each letter."""

    name: str = "rankloop-v2"
    judges: bool = True
    fault: Exception | None = None
    asked: list[Any] = field(default_factory=list)

    def log_odds(self, answers: list[Any]) -> list[float]:
        self.asked += answers
        if self.fault:
            raise self.fault
        return [math.nan if text == "odd" else float(len(text)) for _, text in answers]


def _predicted(*pairs: tuple[str, str]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Predictions of these pairs, scored 0.5, and their tasks."""
    found = [{"score": 0.5, **live_prediction(LIVE, one, other, "rankloop-v2")} for one, other in pairs]
    return found, [{"id": number, "data": {"prompt": f"Tea {number}?"}} for number in range(len(pairs))]


def test_the_closest_calls_come_first_in_ascending_order() -> None:
    """The score is the probability of the answer that the reward model prefers, whichever side it stands on."""
    predictions, tasks = _predicted(("ab", "abc"), ("abcd", "a"), ("same", "size"), ("odd", "x"))
    version = _Version()
    found = with_scores([*predictions, None], [*tasks, {"id": 9}], LIVE, version)  # type: ignore[arg-type]
    scores = [prediction["score"] for prediction in found if prediction]
    assert scores == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-3)), 0.5, 0.5])
    assert found[-1] is None
    assert version.asked[:2] == [("Tea 0?", "ab"), ("Tea 0?", "abc")]


@pytest.mark.parametrize("version", [_Version(judges=False), _Version(fault=ModelError("no reward model"))])
def test_without_a_reward_model_proposals_are_made_all_the_same(version: _Version) -> None:
    """They keep the score of a pair that nothing is known about."""
    predictions, tasks = _predicted(("ab", "abc"))
    assert with_scores(predictions, tasks, LIVE, version) == predictions  # type: ignore[arg-type]


def test_the_round_comes_back_with_the_judgement() -> None:
    """Beside the version, which is read as before; a pair that is shown again keeps its round."""
    predictions, tasks = _predicted(("ab", "abc"), ("d", "ef"))
    tasks[1]["meta"] = {"round": 3, "try": 1, "rankloop": {"prompt": "fingerprint"}}
    found = with_rounds([*predictions, None], [*tasks, {"id": 9}])
    assert [region["meta"]["round"] for prediction in found if prediction for region in prediction["result"]] == [
        *(1, 1, 3, 3)
    ]
    again = with_rounds(found[1:2], tasks[:1])[0]
    assert again == found[1]
    assert found[0] is not None
    verdict = {"type": "choices", "from_name": "verdict", "to_name": "prompt", "value": {"choices": ["answer1"]}}
    annotation = {"id": 1, "completed_by": 4, "result": [*found[0]["result"], verdict]}
    judgements = judgements_in(annotation, {**tasks[0], "predictions": []}, LIVE, 7)
    assert isinstance(judgements, list)
    (judgement,) = judgements
    assert (judgement.answer1.model_version, judgement.answer2.model_version) == ("rankloop-v2", "rankloop-v2")
