"""What lines wait for, from the looks that workers took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ml_backend.loop import names
from ml_backend.loop.standing import new_judgements, waiting


class _Client:
    """A job queue in which these looks were taken, one after the other."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self._looks = looks

    def list_workflows(self, name: str, **_: Any) -> list[Any]:
        """The looks; there were no reconciliations."""
        found = [SimpleNamespace(output=look, updated_at=second) for second, look in enumerate(self._looks, 1)]
        return found if name == names.CONSIDER_TRAINING else []


def _look(line: str | None, project_id: int, *projects: int) -> dict[str, Any]:
    counts = [[number, 2] for number in projects]
    why = "4 more judgements" if line else "it isn't connected"
    return {
        "line": line,
        "project_id": project_id,
        "projects": counts,
        "new": 2,
        "needed": 6,
        "why": why,
        "until": None,
    }


def _found(*looks: dict[str, Any]) -> list[Any]:
    client: Any = _Client(*looks)
    return waiting(client)


def test_a_project_that_was_disconnected_waits_for_nothing_any_more() -> None:
    """What it waited for as long as it was connected is over, and its judgements no longer count."""
    (found,) = _found(_look("project-3", 3, 3), _look(None, 3))
    assert (found["line"], found["projects"], found["why"]) == (None, [[3, 0]], "it isn't connected")
    assert new_judgements([found]) == {}


def test_a_project_that_is_connected_again_waits_again() -> None:
    """Why nothing started before is over."""
    (found,) = _found(_look(None, 3), _look("project-3", 3, 3))
    assert (found["line"], found["why"]) == ("project-3", "4 more judgements")


def test_a_line_waits_on_without_the_project_that_left_it() -> None:
    """The others on its line are still connected."""
    found = _found(_look("summaries", 3, 3, 4), _look(None, 3))
    assert [(look["line"], look["projects"]) for look in found] == [(None, [[3, 0]]), ("summaries", [[3, 2], [4, 2]])]
