"""Which projects are connected to a backend, and which one a command means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.connection import choose_project, connected_projects, projects_showing, same_url
from ml_backend.label_studio.records import MLBackend, Project, Webhook

OURS, OTHER = "http://localhost:9090", "http://localhost:9999"


@dataclass
class FakeServer:
    """Just enough of Label Studio to see which projects are connected: the URLs of their ML backends.

    Projects with an odd number show the predictions of `rankloop`; the others have a webhook to us.
    """

    connected: dict[int, list[str]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    url: str = "http://ls"

    def projects(self) -> list[Project]:
        """All of them."""
        return [
            Project(number, f"P{number}", "", "rankloop" if number % 2 else "", True, 0, 0) for number in self.connected
        ]

    def backends(self, project_id: int) -> list[MLBackend]:
        """The project's ML backends."""
        self.asked.append(project_id)
        urls = self.connected[project_id]
        return [MLBackend(number, project_id, url, "", "CO", "", "", "") for number, url in enumerate(urls)]

    def webhooks(self) -> list[Webhook]:
        """Those of the projects with an even number, and one of another backend."""
        ours = [
            Webhook(number, f"{OURS}/webhook", {}, True, True, True, project=number)
            for number in self.connected
            if number % 2 == 0
        ]
        return [*ours, Webhook(99, f"{OTHER}/webhook", {}, True, True, True, project=3)]


def _server(connected: dict[int, list[str]]) -> Any:
    return FakeServer(connected)


def test_a_slash_at_the_end_makes_no_other_address() -> None:
    """Label Studio stores addresses as people typed them."""
    assert same_url("http://localhost:9090/", "http://localhost:9090")
    assert not same_url("http://localhost:9090", "http://localhost:909")
    assert not same_url("http://localhost:9090/a", "http://localhost:9090/b")


def test_connected_is_what_has_a_backend_at_our_address() -> None:
    """Any of a project's backends counts; the one whose predictions it shows doesn't matter."""
    server = _server({1: [OTHER], 2: [OTHER, f"{OURS}/"], 3: [], 4: [OURS], 5: [OURS]})
    assert [project.id for project in connected_projects(server, OURS)] == [2, 4]
    assert server.asked == [2, 4]  # Label Studio calls every backend of a project that it is asked about
    assert [project.id for project in connected_projects(server, OURS, "rankloop")] == [2, 4, 5]
    assert [project.id for project in projects_showing(server, "rankloop")] == [1, 3, 5]


def test_the_only_connected_project_is_meant() -> None:
    """If there is none, the error says how to connect one; if there are several, it lists them."""
    assert choose_project(_server({1: [OTHER], 2: [OURS]}), OURS).id == 2
    with pytest.raises(LabelStudioError, match=r"no project at http://ls is connected.*init-project"):
        choose_project(_server({1: [OTHER]}), OURS)
    with pytest.raises(LabelStudioError, match=r"2 projects are connected.*2 \(P2\), 4 \(P4\).*--project"):
        choose_project(_server({2: [OURS], 3: [], 4: [OURS]}), OURS)
