"""What was judged stays: for the second annotator, and as a pair that isn't drawn again for its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction, pair_digest
from ml_backend.serving.predictions import FRESH_TRIES, predictions_of
from ml_backend.serving.version import AnswerPair

XML = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="answer1"/><Choice value="answer2"/></Choices></View>"""
LIVE = parse_label_config(XML)


@dataclass(slots=True)
class _Version:
    """Answers with these pairs in turn; the last one repeats."""

    pairs: list[tuple[str, str]]
    name: str = "rankloop-v2"
    judges: bool = False
    asked: list[str] = field(default_factory=list)

    def propose(self, questions: Sequence[Any]) -> list[AnswerPair]:
        self.asked += [key for key, _ in questions]
        return [
            AnswerPair(*(self.pairs.pop(0) if len(self.pairs) > 1 else self.pairs[0]), self.name) for _ in questions
        ]

    def log_odds(self, _answers: Sequence[Any]) -> list[float]:
        raise AssertionError


def _texts(prediction: Any) -> list[str]:
    return [region["value"]["text"][0] for region in prediction["result"]]


def _judged(edited: str = "Leaves.", **fields: Any) -> dict[str, Any]:
    regions = live_prediction(LIVE, "Leaves.", "Water.", "rankloop-v1")["result"]
    regions[0]["value"] = {"text": [edited]}
    choice = {"type": "choices", "from_name": "better", "to_name": "question", "value": {"choices": ["answer1"]}}
    annotation = {"result": [*regions, choice], "was_cancelled": False, **fields}
    return {"id": 3, "data": {"prompt": "Tea?"}, "annotations": [annotation]}


def test_the_second_annotator_sees_the_first_ones_pair() -> None:
    """Under the name of the version that serves now, so that it isn't asked for again; its author stays the old one."""
    version = _Version([("New.", "Newer.")])
    first, fresh = predictions_of([_judged(), {"id": 4, "data": {"prompt": "Rain?"}}], LIVE, version)
    assert first
    assert (first["model_version"], _texts(first)) == ("rankloop-v2", ["Leaves.", "Water."])
    assert [region["meta"]["version"] for region in first["result"]] == ["rankloop-v1"] * 2
    assert _texts(fresh) == ["New.", "Newer."]
    assert version.asked == ["task 4"]


def test_what_the_first_one_rewrote_is_shown_as_it_was_proposed() -> None:
    """Both judge the same pair; the rewrite is the first annotator's own."""
    (shown,) = predictions_of([_judged("Leaves, dried.")], LIVE, _Version([("New.", "Newer.")]))
    assert _texts(shown) == ["Leaves.", "Water."]


def test_a_judged_pair_is_found_under_a_changed_config() -> None:
    """The cards were renamed after the first judgement: the regions' ids say which card an answer was on."""
    renamed = parse_label_config(XML.replace('"one"', '"left"').replace('"two"', '"right"'))
    (shown,) = predictions_of([_judged()], renamed, _Version([("New.", "Newer.")]))
    assert shown
    assert _texts(shown) == ["Leaves.", "Water."]
    assert [region["from_name"] for region in shown["result"]] == ["left", "right"]


def test_a_skip_holds_no_pair() -> None:
    """Nobody judged it, so the next annotator sees what the version of now says."""
    (shown,) = predictions_of([_judged(was_cancelled=True)], LIVE, _Version([("New.", "Newer.")]))
    assert _texts(shown) == ["New.", "Newer."]


def _again(*pairs: tuple[str, str]) -> dict[str, Any]:
    shown = [pair_digest(*pair) for pair in pairs]
    return {"id": 9, "data": {"prompt": "Tea?"}, "meta": {"round": 2, "try": 1, "rankloop": {"shown": shown}}}


def test_a_pair_that_was_judged_for_the_prompt_is_drawn_again() -> None:
    """Also if the sides have changed; each draw has a seed of its own."""
    version = _Version([("Water.", "Leaves."), ("Leaves.", "Water."), ("New.", "Newer.")])
    (fresh,) = predictions_of([_again(("Leaves.", "Water."))], LIVE, version)
    assert _texts(fresh) == ["New.", "Newer."]
    assert version.asked == ["task 9", "task 9 again 1", "task 9 again 2"]


def test_a_version_that_knows_one_pair_only_shows_nothing() -> None:
    """After some draws the prediction stays empty, under the version's name."""
    version = _Version([("Leaves.", "Water.")])
    (nothing,) = predictions_of([_again(("Leaves.", "Water."))], LIVE, version)
    assert nothing == {"result": [], "score": 0.0, "model_version": "rankloop-v2"}
    assert len(version.asked) == FRESH_TRIES


def test_answers_that_differ_in_spacing_only_are_no_pair() -> None:
    """They look the same on the page."""
    assert AnswerPair("Hot water.", "Hot  water. ", "v").flawed
    assert not AnswerPair("Hot water.", "Cold water.", "v").flawed
