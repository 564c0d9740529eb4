"""Background proposals: the champion in memory fills a project's open tasks, and is freed afterwards."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeRegistry
from judged_project import JudgedProject

from ml_backend.loop.proposals import BulkProposals
from training.errors import ModelError

PAIRWISE = """<View><Text name="prompt" value="$prompt"/><Text name="answer1" value="$answer1"/>
<Text name="answer2" value="$answer2"/><Pairwise name="comparison" toName="answer1,answer2"/></View>"""


@dataclass(slots=True)
class PairwiseProject(JudgedProject):
    """A project whose tasks contain two answers each, except the last, which contains one."""

    label_config: str = PAIRWISE

    def tasks(self, _project_id: int) -> list[dict[str, Any]]:
        """All tasks."""
        data = {"prompt": "Tea?", "answer1": "Leaves in hot water.", "answer2": "No."}
        tasks = [{"id": number, "data": data} for number in range(1, self.size)]
        return [*tasks, {"id": self.size, "data": {"prompt": "Tea?", "answer1": "Leaves."}}]


@pytest.fixture
def project() -> JudgedProject:
    """Ten of its twelve tasks are open."""
    return JudgedProject(size=12, judged=2)


def _proposals(settings: Any, registry: FakeRegistry, project: JudgedProject) -> BulkProposals:
    return BulkProposals(settings, registry, project.open)  # type: ignore[arg-type]


def test_open_tasks_get_the_champions_answers(settings: Any, registry: FakeRegistry, project: JudgedProject) -> None:
    """Every open task gets a pair from the base, then from the new champion; the old model's memory is freed."""
    proposals = _proposals(settings, registry, project)
    before = threading.active_count()
    assert proposals.some(7) == {"version": "rankloop-v1", "stored": 10, "left": 0}
    assert proposals._loaded is not None
    old = weakref.ref(proposals._loaded.sampler)
    registry.promote("rankloop-v2")
    assert proposals.some(7) == {"version": "rankloop-v2", "stored": 10, "left": 0}
    assert proposals.some(7) == {"version": "rankloop-v2", "stored": 0, "left": 0}
    assert [item["task"] for item in project.stored] == [*range(3, 13)] * 2
    assert all(len(item["result"]) == 2 for item in project.stored)
    assert threading.active_count() <= before  # no other thread polls or waits
    gc.collect()
    assert old() is None


def test_the_model_is_let_go(settings: Any, registry: FakeRegistry, project: JudgedProject) -> None:
    """After release() nothing references the model, and the next round loads it again."""
    proposals = _proposals(settings, registry, project)
    proposals.some(7)
    assert proposals._loaded is not None
    model = weakref.ref(proposals._loaded.sampler)
    proposals.release()
    gc.collect()
    assert model() is None
    project.stored.clear()
    assert proposals.some(7)["stored"] == 10


def test_pairs_that_tasks_bring_are_judged(settings: Any, registry: FakeRegistry) -> None:
    """The reward model, on its own base, preselects an answer; a task without two gets an empty prediction."""
    registry.promote("rankloop-v3")
    project = PairwiseProject(size=4, judged=0)
    assert _proposals(settings, registry, project).some(7) == {"version": "rankloop-v3", "stored": 4, "left": 0}
    assert [len(item["result"]) for item in project.stored] == [1, 1, 1, 0]


def test_a_champion_that_cannot_be_loaded_is_said(
    settings: Any, registry: FakeRegistry, project: JudgedProject, tmp_path: Path
) -> None:
    """The error names the damaged version, nothing is stored, and the next champion is loaded."""
    registry.folders = {**registry.folders, "rankloop-v4": tmp_path / "rankloop-v4"}
    registry.promote("rankloop-v4")
    proposals = _proposals(settings, registry, project)
    with pytest.raises(ModelError, match="rankloop-v4"):
        proposals.some(7)
    assert project.stored == []
    registry.promote("rankloop-v2")
    assert proposals.some(7)["stored"] == 10


def test_a_changed_label_config_changes_the_stored_proposals(
    settings: Any, registry: FakeRegistry, project: JudgedProject
) -> None:
    """The cards were renamed: the same pairs are stored under the new names, each in its place, and only once."""
    proposals = _proposals(settings, registry, project)
    proposals.some(7)
    before = [[region["value"] for region in item["result"]] for item in project.stored]
    project.label_config = project.label_config.replace('"answer1"', '"first"').replace('"answer2"', '"second"')
    assert proposals.some(7)["stored"] == 0
    assert [[region["value"] for region in item["result"]] for item in project.stored] == before
    assert all([region["from_name"] for region in item["result"]] == ["first", "second"] for item in project.stored)


def test_a_challenger_shares_the_open_tasks(settings: Any, registry: FakeRegistry, project: JudgedProject) -> None:
    """Open tasks get pairs of both under a name of their own; after the contest the champion's pairs show again."""
    proposals = _proposals(settings, registry, project)
    proposals.some(7)
    registry.challengers["default"] = "rankloop-v2"
    assert proposals.some(7) == {"version": "rankloop-v1+v2", "stored": 10, "left": 0}
    authors = [{region["meta"]["version"] for region in item["result"]} for item in project.stored[10:]]
    assert {"rankloop-v1", "rankloop-v2"} in authors
    assert {"rankloop-v1"} in authors
    registry.challengers.clear()
    assert proposals.some(7) == {"version": "rankloop-v1", "stored": 0, "left": 0}
    proposals.release()


def test_a_challenger_that_does_not_load_costs_no_proposals(
    settings: Any, registry: FakeRegistry, project: JudgedProject, tmp_path: Path
) -> None:
    """The champion answers alone."""
    registry.current()
    registry.challengers["default"] = "rankloop-v2"
    registry.folders = {**registry.folders, "rankloop-v2": tmp_path / "nothing"}
    (tmp_path / "nothing").mkdir()
    assert _proposals(settings, registry, project).some(7) == {"version": "rankloop-v1", "stored": 10, "left": 0}
