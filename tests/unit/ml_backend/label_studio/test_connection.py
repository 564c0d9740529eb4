"""Which projects are connected to a backend, and which one a command means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.connection import (
    BackendAddress,
    choose_project,
    connect_backend,
    connected_projects,
    connection_of,
    projects_showing,
    same_url,
)
from ml_backend.label_studio.credentials import Guard
from ml_backend.label_studio.records import MLBackend, Project, Webhook

OURS, OTHER = "http://localhost:9090", "http://localhost:9999"


@dataclass
class FakeServer:
    """Just enough of Label Studio to see which projects are connected: the URLs of their ML backends."""

    connected: dict[int, list[str]] = field(default_factory=dict)
    webhooks: dict[int, str] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)
    url: str = "http://ls"

    def all_webhooks(self) -> list[Webhook]:
        """One for each project that has one."""
        return [Webhook(number, url, {}, True, True, True, number) for number, url in self.webhooks.items()]

    def projects(self) -> list[Project]:
        """Every second one shows the predictions of `rankloop`."""
        return [
            Project(number, f"P{number}", "", "rankloop" if number % 2 else "", True, 0, 0) for number in self.connected
        ]

    def backends(self, project_id: int) -> list[MLBackend]:
        """The project's ML backends."""
        self.asked.append(project_id)
        if project_id in self.gone:
            raise LabelStudioError("there is no such project", status=404)
        urls = self.connected[project_id]
        return [MLBackend(number, project_id, url, "", "CO", "", "", "") for number, url in enumerate(urls)]


def _server(connected: dict[int, list[str]]) -> Any:
    return FakeServer(connected, dict.fromkeys(connected, f"{OURS}/webhook"))


def test_a_slash_at_the_end_makes_no_other_address() -> None:
    """Label Studio stores addresses as people typed them."""
    assert same_url("http://localhost:9090/", "http://localhost:9090")
    assert not same_url("http://localhost:9090", "http://localhost:909")
    assert not same_url("http://localhost:9090/a", "http://localhost:9090/b")


def test_connected_is_what_has_a_backend_at_our_address() -> None:
    """Any of a project's backends counts; the one whose predictions it shows doesn't matter."""
    server = _server({1: [OTHER], 2: [OTHER, f"{OURS}/"], 3: [], 4: [OURS]})
    assert [project.id for project in connected_projects(server, OURS, "rankloop")] == [2, 4]
    assert [project.id for project in projects_showing(server, "rankloop")] == [1, 3]


def test_the_only_connected_project_is_meant() -> None:
    """If there is none, the error says how to connect one; if there are several, it lists them."""
    assert choose_project(_server({1: [OTHER], 2: [OURS]}), OURS, "rankloop").id == 2
    with pytest.raises(LabelStudioError, match=r"no project at http://ls is connected.*init-project"):
        choose_project(_server({1: [OTHER]}), OURS, "rankloop")
    with pytest.raises(LabelStudioError, match=r"2 projects are connected.*2 \(P2\), 4 \(P4\).*--project"):
        choose_project(_server({2: [OURS], 3: [], 4: [OURS]}), OURS, "rankloop")


def test_only_projects_that_may_be_connected_are_asked() -> None:
    """A project without a webhook to us that shows other predictions isn't asked for its backends, which costs a health
    check of each.
    """
    server = FakeServer({number: [OURS] for number in range(2, 100, 2)}, {4: f"{OURS}/webhook", 6: f"{OTHER}/webhook"})
    assert [project.id for project in connected_projects(server, OURS, "rankloop")] == [4]  # type: ignore[arg-type]
    assert server.asked == [4]


def test_a_project_that_was_deleted_meanwhile_is_not_connected() -> None:
    """A 404 for one project doesn't hide the others."""
    server = _server({2: [OURS], 4: [OURS], 6: [OURS]})
    server.gone = {4}
    assert [project.id for project in connected_projects(server, OURS, "rankloop")] == [2, 6]
    assert connection_of(server, 4, OURS) is None


@dataclass
class _Connectable(FakeServer):
    """A project that is connected to us with settings of its own; remembers what is sent."""

    extra_params: Any = None
    sent: list[Any] = field(default_factory=list)

    def backends(self, project_id: int) -> list[MLBackend]:
        """Ours, if the project is connected."""
        return [replace(backend, extra_params=self.extra_params) for backend in FakeServer.backends(self, project_id)]

    def project(self, project_id: int) -> Project:
        """It shows our predictions."""
        return Project(project_id, "P", "", "rankloop", True, 0, 0)

    def add_backend(self, *_: Any) -> MLBackend:
        """Remember the last argument."""
        self.sent.append(_[-1])
        return MLBackend(1, 2, OURS, "", "CO", "", "", "")

    update_backend = add_backend


@pytest.mark.parametrize(
    ("connected", "had", "given", "sent"),
    [
        (True, {"line": "a", "train_after": 5}, {"line": "b"}, {"line": "b", "train_after": 5}),
        (True, None, {"line": "b"}, {"line": "b"}),
        (True, "what somebody typed", {"line": "b"}, {"line": "b"}),
        (True, {"line": "a"}, {}, None),
        (False, None, {"line": "b"}, {"line": "b"}),
    ],
)
def test_a_projects_settings_are_added_to_those_it_has(connected: bool, had: Any, given: Any, sent: Any) -> None:
    """Connecting again changes what is named and nothing else; None leaves Label Studio's as they are."""
    server: Any = _Connectable({2: [OURS] if connected else []}, extra_params=had)
    connect_backend(server, 2, BackendAddress(OURS, "rankloop", Guard(None, None)), given)
    assert server.sent == [sent]
