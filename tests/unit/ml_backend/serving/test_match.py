"""Champion and challenger under one name: who writes what, blind, stable, and read back for the right author."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeRegistry

from ml_backend.contest import in_contest, is_joint_name, joint_name
from ml_backend.labels import judged_pair, judgements_from_export, parse_label_config
from ml_backend.labels.authors import pair_prediction
from ml_backend.serving.match import Match
from ml_backend.serving.predictions import predictions_of
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.version import load_version
from ml_backend.settings import load_settings
from training.errors import ModelError

LIVE = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="First" alias="answer1"/><Choice value="Second" alias="answer2"/>
</Choices></View>"""
QUESTIONS = [(f"task {n}", f"How do I boil {n} eggs?") for n in range(40)]
OLD, NEW, BOTH = "rankloop-v1", "rankloop-v2", "rankloop-v1+v2"


@pytest.fixture(scope="module")
def match(version_folders: dict[str, Path], tiny_model_dir: Path) -> Match:
    """The base against another version, in half of the tasks."""
    settings = load_settings(model=str(tiny_model_dir), device="cpu", max_new_tokens=12)
    one, other = (load_version(name, version_folders[name], settings) for name in (OLD, NEW))
    return Match(one, other, 0.5)


def _tasks(number: int) -> list[dict[str, Any]]:
    return [{"id": n, "data": {"prompt": f"How do I boil {n} eggs?"}} for n in range(1, number + 1)]


def test_the_name_belongs_to_both() -> None:
    """Neither version's own name, and recognised as nobody's."""
    assert joint_name("rankloop.project-7-v3", "rankloop.project-7-v12") == "rankloop.project-7-v3+v12"
    assert is_joint_name("rankloop.project-7-v3+v12")
    assert not is_joint_name("rankloop.project-7-v3")


def test_about_the_share_of_the_tasks_is_asked_about_both() -> None:
    """Of 2,000 tasks 30% are, within 4 standard deviations (41), and always the same ones."""
    chosen = [in_contest(f"task {n}", 0.3) for n in range(2000)]
    assert abs(sum(chosen) - 600) <= 82
    assert chosen == [in_contest(f"task {n}", 0.3) for n in range(2000)]
    assert all(in_contest(f"task {n}", 1.0) for n in range(50))


def test_contest_tasks_get_one_answer_of_each(match: Match) -> None:
    """The others get the pair that the champion alone gives them; all are stored under the joint name."""
    pairs = match.propose(QUESTIONS)
    alone = match.champion.propose(QUESTIONS)
    assert {pair.version for pair in pairs} == {BOTH}
    for (key, _), pair, own in zip(QUESTIONS, pairs, alone, strict=True):
        if in_contest(key, 0.5):
            assert sorted(pair.authors or ()) == [OLD, NEW]
        else:
            assert pair.authors == (OLD, OLD)
            assert (pair.answer1, pair.answer2) == (own.answer1, own.answer2)
    assert match.propose(QUESTIONS[::-1])[::-1] == pairs


def test_each_side_is_as_likely(match: Match) -> None:
    """The challenger stands on either side, whatever the batch."""
    both = Match(match.champion, match.challenger, 1.0)
    sides = Counter((pair.authors or ("", ""))[0] for pair in both.propose(QUESTIONS))
    assert min(sides[OLD], sides[NEW]) >= 8


def test_nothing_but_the_metadata_says_who_wrote_what(match: Match) -> None:
    """Without its regions' metadata a prediction holds neither version's name outside the joint one."""
    config = parse_label_config(LIVE)
    for prediction in predictions_of(_tasks(20), config, match):
        assert prediction is not None
        assert prediction["model_version"] == BOTH
        shown = [{name: value for name, value in region.items() if name != "meta"} for region in prediction["result"]]
        assert OLD not in json.dumps(shown)
        assert NEW not in json.dumps(shown)


@pytest.mark.parametrize("keeps_meta", [True, False])
def test_a_judgement_knows_the_author_of_each_answer(match: Match, keeps_meta: bool) -> None:
    """From the annotation's regions, or where they lost their metadata from the stored prediction."""
    config = parse_label_config(LIVE)
    tasks = _tasks(12)
    exported, expected = [], {}
    for task, prediction in zip(tasks, predictions_of(tasks, config, match), strict=True):
        assert prediction is not None
        expected[task["id"]] = [region["meta"]["version"] for region in prediction["result"]]
        regions = [
            {name: value for name, value in region.items() if keeps_meta or name != "meta"}
            for region in prediction["result"]
        ]
        verdict = {"from_name": "better", "to_name": "question", "type": "choices", "value": {"choices": ["answer1"]}}
        annotation = {"id": task["id"], "completed_by": 1, "result": [*regions, verdict]}
        exported.append({**task, "annotations": [annotation], "predictions": [prediction]})
    judgements, _ = judgements_from_export(exported, config)
    found = {j.task_id: [j.answer1.model_version, j.answer2.model_version] for j in judgements}
    assert found == expected
    assert [OLD, NEW] in found.values() or [NEW, OLD] in found.values()


def test_the_second_annotator_sees_the_same_pair_and_it_keeps_its_authors(match: Match) -> None:
    """A pair that is shown again carries its regions' ids and metadata."""
    config = parse_label_config(LIVE)
    both = Match(match.champion, match.challenger, 1.0)
    (task,) = _tasks(1)
    (prediction,) = predictions_of([task], config, both)
    assert prediction is not None
    pair = judged_pair({**task, "annotations": [{"result": prediction["result"]}]}, config)
    assert pair is not None
    again = pair_prediction(config, pair, NEW)["result"]
    assert [region["meta"] for region in again] == [region["meta"] for region in prediction["result"]]


def test_the_server_answers_for_both_while_there_is_a_challenger(proposer: Proposer, registry: FakeRegistry) -> None:
    """It loads the challenger beside the champion, and lets it go when the contest is over."""
    assert proposer.wait_until_loaded(30)
    registry.challengers["default"] = NEW
    _until(lambda: proposer.expected() == BOTH)
    pairs = proposer.asked(until=time.monotonic() + 30).propose(QUESTIONS)
    assert {author for pair in pairs if pair for author in pair.authors or ()} == {OLD, NEW}
    assert proposer.version == OLD
    registry.challengers.clear()
    _until(lambda: proposer.expected() == OLD)
    assert {pair.authors for pair in proposer.asked(until=time.monotonic() + 30).propose(QUESTIONS[:3]) if pair} == {
        None
    }


def test_a_challenger_that_cannot_be_loaded_leaves_the_champion_alone(
    proposer: Proposer, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Champion pairs as ever, no fault, and one line in the log."""
    assert proposer.wait_until_loaded(30)
    fetch = registry.fetch

    def broken(version: Any) -> Path:
        if version.name == NEW:
            raise ModelError("its weights are damaged")
        return fetch(version)

    monkeypatch.setattr(registry, "fetch", broken)
    registry.challengers["default"] = NEW
    _until(lambda: "can't be loaded" in caplog.text)
    assert proposer.expected() == OLD
    assert proposer.fault is None
    assert caplog.text.count("can't be loaded") == 1


def _until(condition: Any) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends, "the condition didn't become true"
        time.sleep(0.01)
