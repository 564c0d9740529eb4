"""Lines of versions in a real MLflow on SQLite."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ml_backend.errors import RegistryError, SupersededError
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A registry without versions."""
    return Registry(mlflow_settings)


@pytest.fixture
def make_version(registry: Registry, tmp_path: Path) -> Any:
    """Registers a small made-up version on a line, as a cycle would."""

    def make(workflow_id: str, line: str) -> Version:
        folder = tmp_path / workflow_id
        (folder / "policy").mkdir(parents=True)
        (folder / "policy" / "model.safetensors").write_text(workflow_id)
        run_id = registry.start_cycle_run(7, workflow_id, {"line": line})
        parent = registry.current(line).name
        return registry.register(folder, run_id=run_id, parent=parent, metrics={}, tags={"kind": "cycle"}, line=line)

    return make


def _champion(registry: Registry, line: str) -> str:
    champion = registry.champion(line)
    assert champion is not None
    return champion.name


def test_a_line_starts_from_the_base_and_shares_its_files(registry: Registry, mlflow_settings: Settings) -> None:
    """Each line has its own first version and champion; the base model is stored and fetched once for all of them."""
    first, other = registry.current("project-7"), registry.current("a_b-c")
    assert (first.name, first.line, first.number) == ("rankloop.project-7-v1", "project-7", 1)
    assert other.name == "rankloop.a_b-c-v1"
    assert registry.base("project-7") == first == registry.get("rankloop.project-7-v1")
    assert registry.fetch(first) == registry.fetch(other) == mlflow_settings.home() / "versions" / "rankloop-v1"
    assert len(list((mlflow_settings.home() / "mlartifacts").rglob("model.safetensors"))) == 1
    assert registry.lines() == ["a_b-c", "project-7"]


def test_lines_do_not_touch_each_other(registry: Registry, make_version: Any) -> None:
    """Promotion and rollback on one line leave the other's champion and history as they are."""
    ours = [make_version("a", "ours"), make_version("b", "ours")]
    theirs = make_version("c", "theirs")
    assert [version.name for version in (*ours, theirs)] == [
        "rankloop.ours-v2",
        "rankloop.ours-v3",
        "rankloop.theirs-v2",
    ]
    registry.promote(ours[0].name)
    registry.promote(ours[1].name)
    registry.promote(theirs.name)
    assert registry.rollback("ours").name == "rankloop.ours-v2"
    assert (_champion(registry, "ours"), _champion(registry, "theirs")) == ("rankloop.ours-v2", "rankloop.theirs-v2")
    assert [version.name for version in registry.versions("theirs")] == ["rankloop.theirs-v1", "rankloop.theirs-v2"]
    assert [state.champion and state.champion.name for state in registry.line_states()] == [
        "rankloop.ours-v2",
        "rankloop.theirs-v2",
    ]


def test_a_champion_that_changed_meanwhile_is_not_replaced(registry: Registry, make_version: Any) -> None:
    """A cycle names the champion it started from: after a rollback its version stays a version, and the error says what
    happened. One that starts from the champion after that may replace it.
    """
    first, second, third = (make_version(name, "ours") for name in "abc")
    base = registry.base("ours").name
    registry.promote(first.name, instead_of=base)
    registry.promote(first.name, instead_of=base)  # as after a crash: it is champion already
    registry.rollback("ours")
    with pytest.raises(SupersededError, match=rf"the champion is {base} now, no longer {first.name}"):
        registry.promote(second.name, instead_of=first.name)
    assert _champion(registry, "ours") == base
    assert registry.promote(third.name, instead_of=base).name == third.name
    assert registry.promote(second.name).name == second.name  # a person may


def test_versions_from_before_there_were_lines_are_the_default_line(registry: Registry, make_version: Any) -> None:
    """A data folder from an older release keeps its champion, history and names; the takeover is noted once."""
    version = make_version("a", "default")
    registry.promote(version.name)
    registry._client.delete_registered_model_tag("rankloop", "taken_over_at")
    began = time.time()
    later = Registry(registry._settings)
    assert later.taken_over_at() >= began  # not noted yet: whatever exists now is older than lines
    later.ensure_base()
    noted = later.taken_over_at()
    assert began <= noted <= time.time()
    assert Registry(registry._settings).taken_over_at() == noted
    assert _champion(later, "default") == version.name == "rankloop-v2"
    assert later.current("project-9").name == "rankloop.project-9-v1"
    assert later.fetch(later.current("project-9")) == later.fetch(later.base())  # a new line starts from the base
    assert later.lines() == ["default", "project-9"]


def test_a_new_data_folder_is_not_taken_over(registry: Registry) -> None:
    """No project is older than lines there, and the default line isn't listed beside others."""
    assert registry.taken_over_at() == 0.0
    registry.ensure_base()
    assert registry.taken_over_at() == 0.0
    assert registry.lines() == ["default"]
    assert registry.only_line() == "default"
    registry.current("project-7")
    assert registry.only_line() == "project-7"


def test_several_lines_are_listed_where_one_is_meant(registry: Registry) -> None:
    """The error lists them and names the option."""
    registry.current("a")
    registry.current("b")
    with pytest.raises(RegistryError, match=r"several lines.*a, b.*--line"):
        registry.only_line()


def test_a_line_is_paused_and_resumed(registry: Registry) -> None:
    """Pausing twice keeps the first moment; an unknown line is an error that lists those there are."""
    registry.current("a")
    assert registry.paused_since("a") is None
    since = registry.pause("a")
    assert registry.pause("a") == registry.paused_since("a") == since
    assert registry.line_states()[0].paused_since == since
    assert registry.resume("a") is True
    assert registry.resume("a") is False
    assert registry.paused_since("a") is None
    with pytest.raises(RegistryError, match=r"no such line.*one of: a"):
        registry.pause("b")


@pytest.mark.parametrize("line", ["", "A", "a.b", "a/b", "a'b", "-a", "a" * 41])
def test_an_unsafe_name_is_no_line(registry: Registry, line: str) -> None:
    """It never becomes part of a query, a path or a version's name."""
    with pytest.raises(RegistryError, match="can't have this name"):
        registry.champion(line)


def test_what_a_cycle_saw_counts_however_it_ended_unless_it_was_refused(registry: Registry) -> None:
    """The newest cycle that says something about a project counts, on that line alone."""
    seen = {"w-1": '{"7": "2026-01-01", "8": "2026-01-01"}', "w-2": '{"7": "2026-01-02"}', "w-3": '{"8": "2026-01-09"}'}
    for workflow_id, status in (("w-1", "promoted"), ("w-2", "failed"), ("w-3", "refused")):
        run_id = registry.start_cycle_run(7, workflow_id, {"line": "a", "seen": seen[workflow_id]})
        registry.finish_run(run_id, status)
    assert registry.seen_on("a") == {7: "2026-01-02", 8: "2026-01-01"}
    assert registry.seen_on("b") == {}
