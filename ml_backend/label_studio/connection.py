"""How a project is connected to this backend: one ML backend entry, and one webhook with the backend's credentials."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.credentials import SECRET_HEADER, Guard
from ml_backend.label_studio.records import Connection, MLBackend, Project, Webhook
from ml_backend.settings import Settings

HOST_NAME_REMEDY = (
    "Give the backend a host name with a dot (in Docker Compose a network alias such as rankloop.local), "
    "localhost or an IP address, and set RANKLOOP_BACKEND_URL to it."
)


@dataclass(frozen=True, slots=True)
class BackendAddress:
    """Where Label Studio finds the backend, and the credentials it must send."""

    url: str
    title: str
    guard: Guard

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The address that the settings give; the title is the model's name."""
        return cls(settings.public_url(), settings.model_name, Guard.from_settings(settings))

    @property
    def webhook_url(self) -> str:
        """Where Label Studio sends events."""
        return webhook_url(self.url)

    def webhook_headers(self) -> dict[str, str]:
        """The headers a webhook must carry: Label Studio adds no credentials of its own.

        Everyone who may change the project can read them in Label Studio. So with a webhook secret they hold only that,
        which opens nothing but /webhook.
        """
        if self.guard.secret:
            return {SECRET_HEADER: self.guard.secret}
        if self.guard.basic:
            pair = ":".join(self.guard.basic).encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}


def same_url(one: str, other: str) -> bool:
    """Whether two URLs are the same apart from a trailing slash."""
    return one.rstrip("/") == other.rstrip("/")


def connections(label_studio: LabelStudio, url: str, title: str) -> list[Connection]:
    """The projects that have an ML backend at this URL, by id: their events count, and their tasks get proposals.

    Label Studio lists ML backends only project by project, and checks the health of each. So only those projects are
    asked that have a webhook to this backend or show its predictions; one with neither neither tells it anything nor
    shows anything of it.

    Args:
        label_studio: the server.
        url: the backend's address.
        title: the backend's title, which projects that show its predictions name.
    """
    projects = label_studio.projects()
    try:
        told_by = {hook.project for hook in label_studio.all_webhooks() if same_url(hook.url, webhook_url(url))}
    except LabelStudioError as error:
        if error.status != 403:
            raise
        told_by = {project.id for project in projects}  # this key's owner may not list webhooks
    found = []
    for project in sorted(projects, key=lambda project: project.id):
        if project.id in told_by or project.model_version == title:
            backend = _backend_at(label_studio, project.id, url)
            if backend is not None:
                found.append(Connection(project, backend))
    return found


def connection_of(label_studio: LabelStudio, project_id: int, url: str) -> Connection | None:
    """A project's connection to the backend at this URL; None if it has none, or doesn't exist."""
    backend = _backend_at(label_studio, project_id, url)
    return Connection(label_studio.project(project_id), backend) if backend else None


def connected_projects(label_studio: LabelStudio, url: str, title: str) -> list[Project]:
    """The projects of `connections`."""
    return [connection.project for connection in connections(label_studio, url, title)]


def _backend_at(label_studio: LabelStudio, project_id: int, url: str) -> MLBackend | None:
    """The project's ML backend at this URL; None if there is none, or if the project was deleted meanwhile."""
    try:
        backends = label_studio.backends(project_id)
    except LabelStudioError as error:
        if error.status == 404:
            return None
        raise
    return next((backend for backend in backends if same_url(backend.url, url)), None)


def webhook_url(url: str) -> str:
    """Where Label Studio sends events to a backend at this address."""
    return f"{url.rstrip('/')}/webhook"


def projects_showing(label_studio: LabelStudio, title: str) -> list[Project]:
    """The projects set to show the predictions of the backend with this title, even if it isn't connected."""
    return [project for project in label_studio.projects() if project.model_version == title]


def choose_project(label_studio: LabelStudio, url: str, title: str) -> Project:
    """The only project that is connected to the backend at this URL.

    Raises:
        LabelStudioError: there are none or several.
    """
    ours = connected_projects(label_studio, url, title)
    if len(ours) == 1:
        return ours[0]
    if not ours:
        raise LabelStudioError(
            f"no project at {label_studio.url} is connected to the backend {url}",
            remedy="Connect one with rankloop init-project, or choose one with --project ID.",
        )
    raise LabelStudioError(
        f"{len(ours)} projects are connected to the backend {url}",
        got=", ".join(f"{project.id} ({project.title})" for project in ours),
        remedy="Choose one with --project ID.",
    )


def has_single_label_host(url: str) -> bool:
    """Whether the host is a bare name such as `ml-backend`: Label Studio connects to it, but refuses webhooks to it."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or "." in host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def connect_backend(
    label_studio: LabelStudio, project_id: int, address: BackendAddress, extra_params: Mapping[str, Any] | None = None
) -> MLBackend:
    """Connect the backend to a project, or repair a connection to the same URL. Idempotent.

    `extra_params` are added to those that the connection has already.

    Duplicate entries for the URL are removed, as is the one that a refused connection leaves behind; entries for other
    URLs stay and are reported by `rankloop doctor`. The project is set to show this backend's predictions.

    Raises:
        LabelStudioError: Label Studio rejects the address, or the backend doesn't answer there.
    """
    same = [backend for backend in label_studio.backends(project_id) if same_url(backend.url, address.url)]
    for duplicate in same[1:]:
        label_studio.remove_backend(duplicate.id)
    if same:
        had = same[0].extra_params if isinstance(same[0].extra_params, Mapping) else {}
        merged = {**had, **extra_params} if extra_params else None
        backend = label_studio.update_backend(same[0], address.title, address.guard.basic, merged)
    else:
        backend = _add(label_studio, project_id, address, extra_params)
    if label_studio.project(project_id).model_version != address.title:
        label_studio.update_project(project_id, model_version=address.title)
    return backend


def _add(
    label_studio: LabelStudio, project_id: int, address: BackendAddress, extra_params: Mapping[str, Any] | None
) -> MLBackend:
    try:
        return label_studio.add_backend(project_id, address.url, address.title, address.guard.basic, extra_params)
    except LabelStudioError:
        for backend in label_studio.backends(project_id):
            if same_url(backend.url, address.url):
                label_studio.remove_backend(backend.id)
        raise


def secure_webhook(label_studio: LabelStudio, project_id: int, address: BackendAddress) -> Webhook:
    """Ensure that exactly one webhook sends the backend all events, with the credentials it requires. Idempotent.

    Label Studio creates the webhook when the backend is connected, but without credentials, and silently creates none
    for a host name without a dot.

    Raises:
        LabelStudioError: there is none, and Label Studio refuses to create one.
    """
    headers = address.webhook_headers()
    same = [hook for hook in label_studio.webhooks(project_id) if same_url(hook.url, address.webhook_url)]
    for duplicate in same[1:]:
        label_studio.remove_webhook(duplicate.id)
    if same:
        return same[0] if webhook_is_right(same[0], headers) else label_studio.update_webhook(same[0], headers)
    if has_single_label_host(address.url):
        raise LabelStudioError(
            "Label Studio creates no webhook for a host name without a dot, so judgements wouldn't reach the backend",
            got=address.url,
            remedy=HOST_NAME_REMEDY,
        )
    return label_studio.add_webhook(project_id, address.webhook_url, headers)


def webhook_is_right(webhook: Webhook, headers: dict[str, str]) -> bool:
    """Whether a webhook is active for all actions, with payloads, and carries these headers."""
    return webhook.active and webhook.all_actions and webhook.payload and dict(webhook.headers) == headers
