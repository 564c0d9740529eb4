"""A stated number of complete tasks always waits: the right prompts, fresh answers, and who wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ml_backend.labels import judgements_from_export, parse_label_config
from ml_backend.lines import Connected, ProjectSettings
from ml_backend.rounds import Rounds, runs_short, top_up, wanted
from ml_backend.rounds.topping_up import fresh_rows
from ml_backend.serving.version import AnswerPair
from ml_backend.settings import Settings
from training.data import aggregate

ROOT = Path(__file__).parents[4]
PAIRWISE = (ROOT / "label_configs" / "pairwise.xml").read_text(encoding="utf-8")
RANKER = (ROOT / "label_configs" / "ranker.xml").read_text(encoding="utf-8")
LIVE = (ROOT / "label_config.xml").read_text(encoding="utf-8")


@dataclass
class Writer:
    """A version that writes a new answer each time, or only knows these."""

    knows: Sequence[str] = ()
    name: str = "rankloop-v2"
    keys: list[str] = field(default_factory=list)

    def propose(self, questions: Sequence[tuple[str, Any]]) -> list[AnswerPair]:
        """Two answers to each prompt."""
        found = []
        for key, prompt in questions:
            assert key not in self.keys
            self.keys.append(key)
            one, other = (self.knows or (f"{prompt} {key} one", f"{prompt} {key} two"))[:2]
            found.append(AnswerPair(one, other, self.name))
        return found


@dataclass
class Waiting:
    """A project's tasks, of which the first ones have been judged."""

    listed: list[dict[str, Any]]
    judged: int = 0

    def open_tasks_up_to(self, _project_id: int, most: int) -> int:
        """How many wait."""
        return min(most, len(self.listed) - self.judged)

    def tasks(self, _project_id: int) -> list[dict[str, Any]]:
        """All of them."""
        return self.listed

    def import_tasks(self, _project_id: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add some."""
        self.listed += [{"id": len(self.listed) + place, **row} for place, row in enumerate(rows, start=1)]
        return [task["id"] for task in self.listed[-len(rows) :]]


def _pair(number: int, prompt: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"prompt": prompt, "answer1": f"{number} a", "answer2": f"{number} b", **more}}


def _project(number: int | None, label_config: str = PAIRWISE) -> Connected:
    return Connected(7, "default", ProjectSettings(top_up=number), label_config)


def test_the_stated_number_always_waits(settings: Settings) -> None:
    """Nothing is added while enough wait; with fewer, as many as make it twice the number, whatever was judged."""
    server: Any = Waiting([_pair(number, f"Prompt {number}?") for number in range(1, 7)])
    config = parse_label_config(PAIRWISE)
    number = wanted(settings, _project(4), config)
    assert number == 4
    assert not runs_short(server, _project(4), 4)
    assert top_up(server, _project(4), config, 4, Writer()) == 0
    for judged in (3, 6, 11, 14):
        server.judged = judged
        top_up(server, _project(4), config, 4, Writer())
        assert len(server.listed) - judged >= 4
    assert len(server.listed) == 19  # 3 waited, so 5 were added; 5 waited after 6; none after 11: 8; 5 after 14


def test_prompts_with_the_fewest_tasks_come_first() -> None:
    """And each comes once before any comes again; everything else in the task's data stays."""
    tasks = [_pair(1, "Tea?"), _pair(2, "Tea?"), _pair(3, "Rain?", reference="Wet."), _pair(4, "Snow?")]
    rows = fresh_rows(tasks, parse_label_config(PAIRWISE), 5, Writer())
    assert [row["data"]["prompt"] for row in rows] == ["Rain?", "Snow?", "Tea?", "Rain?", "Snow?"]
    assert rows[0]["data"]["reference"] == "Wet."
    answers = [row["data"][key] for row in rows for key in ("answer1", "answer2")]
    assert len(set(answers)) == 10


def test_an_answer_that_was_shown_is_none() -> None:
    """A version that knows only the answers that a prompt's tasks have, or two equal ones, makes no task."""
    config = parse_label_config(PAIRWISE)
    assert fresh_rows([_pair(1, "Tea?")], config, 3, Writer(knows=("1 a", "1  b"))) == []
    assert fresh_rows([_pair(1, "Tea?")], config, 3, Writer(knows=("Leaves.", "Leaves. "))) == []
    assert len(fresh_rows([_pair(1, "Tea?")], config, 3, Writer(knows=("Leaves.", "Water.")))) == 1


def test_who_wrote_a_pair_is_known_when_it_is_judged() -> None:
    """The judgement names the version, unless somebody has changed the task's answers since."""
    config = parse_label_config(PAIRWISE)
    (row,) = fresh_rows([_pair(1, "Tea?")], config, 1, Writer())
    region = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison", "value": {"selected": "left"}}
    annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": [region]}
    task = {"id": 9, "project": 7, **row, "annotations": [annotation]}
    (preference,) = aggregate(judgements_from_export([task], config, 7)[0])
    assert preference.source.chosen_version == preference.source.rejected_version == "rankloop-v2"
    changed = {**task, "data": {**row["data"], "answer1": "Something else."}}
    (judgement,) = judgements_from_export([changed], config, 7)[0]
    assert judgement.answer1.model_version is judgement.answer2.model_version is None


@pytest.mark.parametrize(("shown", "made"), [(2, 3), (3, 3), (5, 5), (8, 6)])
def test_a_ranker_gets_as_many_answers_as_its_tasks_show(shown: int, made: int) -> None:
    """Between three and six, all different, with ids, titles that hint at nothing, and the version beside them."""
    items = [{"id": f"i{number}", "title": f"T{number}", "body": f"Old {number}"} for number in range(shown)]
    config = parse_label_config(RANKER)
    (row,) = fresh_rows([{"id": 1, "data": {"prompt": "Tea?", "items": items}}], config, 1, Writer())
    fresh = config.items_of(row["data"])
    assert [item.id for item in fresh] == [f"answer-{number}" for number in range(1, made + 1)]
    assert len({item.text for item in fresh}) == made
    assert {item.model_version for item in fresh} == {"rankloop-v2"}
    assert all("rankloop" not in item["title"] + item["id"] for item in row["data"]["items"])


def test_only_projects_that_ask_for_it_are_topped_up(settings: Settings) -> None:
    """The backend's setting counts where a project has none; live pairs, and answers shown as HTML, are never made."""
    config = parse_label_config(PAIRWISE)
    assert wanted(settings, _project(None), config) == 0
    asked = settings.model_copy(update={"top_up": 20})
    assert wanted(asked, _project(None), config) == 20
    assert wanted(asked, _project(5), config) == 5
    assert wanted(asked, _project(5, LIVE), parse_label_config(LIVE)) == 0
    html = PAIRWISE.replace('<Text name="answer', '<HyperText name="answer')
    assert wanted(asked, _project(5), parse_label_config(html)) == 0


def test_a_project_that_runs_short_is_looked_at(settings: Settings) -> None:
    """At reconciliation, by one small request; a project that isn't topped up costs none for it."""
    server: Any = Waiting([_pair(1, "Tea?")])
    rounds = Rounds(settings)
    config = parse_label_config(PAIRWISE)
    rounds.fitted(_project(2), config)
    assert rounds.due(server, _project(2), "rankloop-v1")
    assert not rounds.due(server, _project(1), "rankloop-v1")
    assert not rounds.due(None, _project(None), "rankloop-v1")  # type: ignore[arg-type]  # isn't asked at all
