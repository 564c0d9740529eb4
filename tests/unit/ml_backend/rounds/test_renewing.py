"""Later rounds and tries in a project: made when they are due, once each, and read as little as possible for it."""

from __future__ import annotations

from typing import Any

import pytest
from rounds_fake import RoundsProject

from ml_backend.errors import LabelStudioError
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.predictions import live_prediction
from ml_backend.lines import Connected, ProjectSettings
from ml_backend.rounds import Rounds
from ml_backend.settings import Settings

LIVE = """<View><Text name="question" value="$prompt"/>
<TextArea name="one" toName="question"/><TextArea name="two" toName="question"/>
<Choices name="better" toName="question"><Choice value="answer1"/><Choice value="answer2"/><Choice value="both_bad"/>
</Choices></View>"""


@pytest.fixture
def server() -> RoundsProject:
    """Three prompts, the first two of them judged under version 1."""
    project = RoundsProject(LIVE)
    project.add("Tea?", "Rain?", "Snow?")
    project.judge(1, "answer1", "rankloop-v1")
    project.judge(2, "answer2", "rankloop-v1")
    return project


@pytest.fixture
def rounds(settings: Settings) -> Rounds:
    """With a look-ahead of ten tasks."""
    return Rounds(settings.model_copy(update={"propose_ahead": 10}))


def _project(number: int = 2, tries: int = 3, label_config: str = LIVE) -> Connected:
    return Connected(7, "default", ProjectSettings(rounds=number, tries=tries), label_config)


def _made(server: RoundsProject) -> list[tuple[str, int, int]]:
    return [(t["data"]["prompt"], t["meta"]["round"], t["meta"]["try"]) for t in server.listed if t["meta"]]


def test_judged_prompts_come_again_under_a_new_champion(rounds: Rounds, server: Any) -> None:
    """Under the version that wrote the pairs nothing is due; under the next one each judged prompt is, once."""
    assert rounds.renew(server, _project(), "rankloop-v1") == 0
    assert not rounds.due(server, _project(), "rankloop-v1") or server.read
    assert rounds.renew(server, _project(), "rankloop-v2") == 2
    assert _made(server) == [("Tea?", 2, 1), ("Rain?", 2, 1)]
    assert rounds.renew(server, _project(), "rankloop-v2") == 0
    assert rounds.renew(server, _project(), "rankloop-v3") == 0  # two rounds; and the made tasks are still open
    server.judge(3, "answer1", "rankloop-v2")
    assert rounds.renew(server, _project(), "rankloop-v3") == 1
    assert _made(server)[2:] == [("Snow?", 2, 1)]


def test_without_later_rounds_nothing_is_added(rounds: Rounds, server: Any) -> None:
    """The default is one round."""
    assert rounds.renew(server, _project(1), "rankloop-v2") == 0
    assert _made(server) == []


def test_later_rounds_wait_until_open_tasks_run_low(rounds: Rounds, server: Any) -> None:
    """While half of the look-ahead is open, people go on with what there is."""
    server.add(*(f"New {number}?" for number in range(4)))
    assert rounds.renew(server, _project(), "rankloop-v2") == 0
    server.judge(3, "answer1", "rankloop-v1")
    assert rounds.renew(server, _project(), "rankloop-v2") == 3


def test_no_more_are_added_than_the_look_ahead_holds(rounds: Rounds, server: Any) -> None:
    """Twenty prompts were judged; nine tasks are added to the one that is open."""
    server.add(*(f"New {number}?" for number in range(18)))
    for number in range(4, 22):
        server.judge(number, "answer1", "rankloop-v1")
    assert rounds.renew(server, _project(), "rankloop-v2") == 9
    assert rounds.renew(server, _project(), "rankloop-v2") == 0


def test_both_bad_draws_again_at_once_up_to_the_last_try(rounds: Rounds, server: Any) -> None:
    """However many tasks are open, and under the same version; a duplicate of the prompt adds no second task."""
    server.add(*(f"New {number}?" for number in range(20)), "Snow?")
    server.judge(3, "both_bad", "rankloop-v1")
    server.judge(24, "both_bad", "rankloop-v1")
    assert rounds.renew(server, _project(1, 2), "rankloop-v1") == 1
    assert _made(server) == [("Snow?", 1, 2)]
    server.judge(25, "both_bad", "rankloop-v1")
    assert rounds.renew(server, _project(1, 2), "rankloop-v1") == 0


@pytest.mark.parametrize("stores", [True, False])
def test_a_request_that_was_cut_off_makes_no_second_task(rounds: Rounds, server: Any, *, stores: bool) -> None:
    """Label Studio may have added the tasks before the answer was lost, or not at all: the next look finds out."""
    server.fault, server.stores_before_fault = LabelStudioError("cut off", status=504), stores
    assert rounds.renew(server, _project(), "rankloop-v2") == 0
    assert rounds.due(server, _project(), "rankloop-v2")
    assert rounds.renew(server, _project(), "rankloop-v2") == (0 if stores else 2)
    assert len(_made(server)) == 2


def test_what_was_forgotten_is_found_in_label_studio(rounds: Rounds, server: Any, settings: Settings) -> None:
    """A lost, damaged or foreign file of what is remembered makes no second task."""
    assert rounds.renew(server, _project(), "rankloop-v2") == 2
    path = settings.home() / "rounds" / "7.json"
    for content in (None, "{", '{"server": "elsewhere", "made": ["x"]}', "[]", '{"unknown": 1}'):
        path.unlink() if content is None else path.write_text(content)
        assert rounds.renew(server, _project(), "rankloop-v2") == 0
    assert len(_made(server)) == 2


def test_a_look_reads_nothing_where_nothing_happened(rounds: Rounds, server: Any) -> None:
    """After the first look only counts are compared, and later ones read what was judged since."""
    rounds.fitted(_project(1), parse_label_config(LIVE))
    assert rounds.due(server, _project(1), "rankloop-v1")
    rounds.renew(server, _project(1), "rankloop-v1")
    server.read = 0
    assert not rounds.due(server, _project(1), "rankloop-v1")
    rounds.renew(server, _project(1), "rankloop-v1")
    assert server.read == 0
    assert rounds.due(server, _project(1), "rankloop-v2")


def test_a_refusal_is_said(rounds: Rounds, server: Any) -> None:
    """Label Studio's refusal isn't taken for a request that may have been carried out."""
    server.fault = LabelStudioError("no", status=400)
    with pytest.raises(LabelStudioError):
        rounds.renew(server, _project(), "rankloop-v2")


def _propose(server: RoundsProject, config: str) -> None:
    answers = live_prediction(parse_label_config(config), "Leaves.", "Water.", "rankloop-v1")
    server.listed[2]["predictions"] = [{"id": 1, **answers}]


def test_proposals_under_other_names_are_misfits(rounds: Rounds, server: Any) -> None:
    """After the cards were renamed, a stored proposal would show nothing; after `fitted` nobody looks again."""
    renamed = parse_label_config(LIVE.replace('"two"', '"second"'))
    _propose(server, LIVE)
    assert rounds.misfits(server, _project(), parse_label_config(LIVE), "rankloop-v1") == []
    assert [task["id"] for task in rounds.misfits(server, _project(), renamed, "rankloop-v1")] == [3]
    rounds.fitted(_project(), renamed)
    assert rounds.misfits(server, _project(), renamed, "rankloop-v1") == []


def test_proposals_for_another_prompt_are_misfits(rounds: Rounds, server: Any) -> None:
    """Under the same names, but the page shows another text now: the pair answers what nobody is asked."""
    _propose(server, LIVE)
    rounds.fitted(_project(), parse_label_config(LIVE))
    other = LIVE.replace("$prompt", "$question")
    assert rounds.due(server, _project(label_config=other), "rankloop-v1")
    assert len(rounds.misfits(server, _project(), parse_label_config(other), "rankloop-v1")) == 1
