"""Which projects are connected, and on which line."""

from __future__ import annotations

from typing import Any

import pytest
from edge_fakes import FakeRegistry
from job_fakes import FakeProjects

from ml_backend.errors import LabelStudioError
from ml_backend.lines.connections import Connected, Connections, line_of
from ml_backend.lines.project_settings import ProjectSettings
from ml_backend.settings import Settings
from training.errors import DataError


def _connections(settings: Settings, registry: FakeRegistry, projects: FakeProjects) -> Connections:
    return Connections(settings, registry, projects.open)  # type: ignore[arg-type]  # fakes of our own edges


@pytest.mark.parametrize(
    ("project", "created_at", "named", "line"),
    [
        (7, 2000.0, None, "project-7"),
        (7, None, None, "project-7"),
        (7, 999.0, None, "default"),
        (7, 999.0, "project-7", "project-7"),
        (7, 2000.0, "shared", "shared"),
        (0, None, None, "default"),
        (None, None, None, "default"),
    ],
)
def test_a_project_is_on_one_line(project: int | None, created_at: float | None, named: str | None, line: str) -> None:
    """Its own, unless it names one, is older than the takeover at 1000, or isn't known."""
    assert line_of(project, created_at, named, 1000.0) == line


def test_connected_projects_have_lines(settings: Settings, registry: FakeRegistry) -> None:
    """Those with a backend at our address; who shares a line is listed together."""
    registry.taken_over = 0.0
    url = settings.public_url()
    params = {2: {"line": "shared", "train_after": 5}, 3: {"line": "shared"}, 4: None}
    projects = FakeProjects({2: url, 3: url + "/", 4: url, 5: "http://elsewhere"}, extra_params=params)
    connections = _connections(settings, registry, projects)
    found = {project.project_id: project.line for project in connections.all()}
    assert found == {2: "shared", 3: "shared", 4: "project-4"}
    second = connections.of(2)
    assert second == Connected(2, "shared", ProjectSettings("shared", train_after=5), projects.label_config)
    assert [project.project_id for project in connections.on_line_of(second)] == [2, 3]
    assert connections.of(5) is None
    assert connections.of(99) is None


def test_a_project_whose_settings_cannot_be_read_hides_no_other(
    settings: Settings, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out with a warning; asked for by itself, the error says what is wrong."""
    url = settings.public_url()
    connections = _connections(settings, registry, FakeProjects({2: url, 3: url}, extra_params={2: {"lien": "a"}}))
    assert [project.project_id for project in connections.all()] == [3]
    assert "project 2 is left out: extra_params has an unknown key" in caplog.text
    with pytest.raises(DataError, match="'lien'"):
        connections.of(2)


def test_the_list_is_remembered_for_a_moment(settings: Settings, registry: FakeRegistry) -> None:
    """A burst of judgements lists the projects once; whether one is connected is always asked."""
    projects: Any = FakeProjects({2: settings.public_url()})
    connections = _connections(settings, registry, projects)
    for _ in range(5):
        connections.all(fresh=False)
    assert projects.asked["projects"] == 1
    projects.fault = LabelStudioError("it is away")
    with pytest.raises(LabelStudioError):
        connections.of(2)
