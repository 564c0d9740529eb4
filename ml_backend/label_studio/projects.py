"""Projects, their ML backends and webhooks, one request per method; `connection` decides what to do with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import MLBackend, Project, Webhook
from ml_backend.label_studio.session import Session, again, once

PROJECTS_PAGE = 500
CONNECT_TIMEOUT_S = 60.0
"""Before it responds, Label Studio calls the backend's /health and /setup twice each."""


class Projects(Session):
    """Operations on projects."""

    def project(self, project_id: int) -> Project:
        """The project with this id."""
        return _project(
            self._call(
                f"show project {project_id}", lambda: self._sdk.projects.get(project_id, request_options=again())
            )
        )

    def projects(self, title: str | None = None) -> list[Project]:
        """All projects, or those with exactly this title."""
        found: list[Any] = []
        while True:
            page: Any = self._call(
                "list projects",
                partial(
                    self._sdk.projects.list,
                    title=title,
                    page=len(found) // PROJECTS_PAGE + 1,
                    page_size=PROJECTS_PAGE,
                    request_options=again(),
                ),
            )
            found += page.items or []
            if len(page.items or []) < PROJECTS_PAGE or len(found) >= (page.response.count or 0):
                break
        projects = [_project(item) for item in found]
        return [project for project in projects if title is None or project.title == title]

    def create_project(self, title: str, label_config: str, description: str = "") -> Project:
        """Create a project that shows predictions to its annotators."""
        made = self._call(
            f"create project {title!r}",
            lambda: self._sdk.projects.create(
                title=title,
                label_config=label_config,
                description=description,
                show_collab_predictions=True,
                request_options=once(),
            ),
        )
        if made.id is None:
            raise LabelStudioError("Label Studio created a project without an id", got=title)
        return self.project(made.id)

    def update_project(self, project_id: int, **fields: Any) -> Project:
        """Change fields of a project. Label Studio notifies the ML backend (PROJECT_UPDATED)."""
        self._call(
            f"change project {project_id}",
            lambda: self._sdk.projects.update(project_id, **fields, request_options=again()),
        )
        return self.project(project_id)

    def ensure_project(self, title: str, label_config: str | None = None, *, project_id: int | None = None) -> Project:
        """Adopt the project with this id or title, or create it; make it show predictions to its annotators.

        Raises:
            LabelStudioError: several projects have the title, or it must be created and there is no label config.
        """
        found = [self.project(project_id)] if project_id is not None else self.projects(title)
        if len(found) > 1:
            raise LabelStudioError(
                f"{len(found)} projects are called {title!r}",
                got=[project.id for project in found],
                remedy="Choose one with --project ID.",
            )
        if not found:
            if label_config is None:
                raise LabelStudioError(f"there is no project {title!r}", expected="a label config to create it with")
            return self.create_project(title, label_config)
        changes: dict[str, Any] = {}
        if label_config is not None and found[0].label_config.split() != label_config.split():
            changes["label_config"] = label_config
        if not found[0].shows_predictions:
            changes["show_collab_predictions"] = True
        return self.update_project(found[0].id, **changes) if changes else found[0]


class Backends(Session):
    """Operations on ML backends and webhooks."""

    def backends(self, project_id: int) -> list[MLBackend]:
        """The project's ML backends, oldest first (Label Studio uses that one). This checks the health of each."""
        found = self._call(
            f"list ML backends of project {project_id}",
            lambda: self._sdk.ml.list(project=project_id, request_options=again(CONNECT_TIMEOUT_S)),
        )
        return sorted((_backend(item) for item in found), key=lambda backend: backend.id)

    def add_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        basic_auth: tuple[str, str] | None,
        extra_params: Mapping[str, Any] | None = None,
    ) -> MLBackend:
        """Connect an ML backend, which must be running. `extra_params` go to its /setup."""
        made = self._call(
            f"connect the backend {url}",
            lambda: self._sdk.ml.create(
                project=project_id,
                url=url,
                title=title,
                request_options=once(CONNECT_TIMEOUT_S),
                **_given(extra_params),
                **_auth(basic_auth),
            ),
        )
        return _backend(made)

    def update_backend(
        self,
        backend: MLBackend,
        title: str,
        basic_auth: tuple[str, str] | None,
        extra_params: Mapping[str, Any] | None = None,
    ) -> MLBackend:
        """Change a connected backend's title, credentials and, unless None, `extra_params`. (Label Studio fails without
        `url` and `project`.)
        """
        changed = self._call(
            f"change the backend {backend.url}",
            lambda: self._sdk.ml.update(
                backend.id,
                url=backend.url,
                project=backend.project,
                title=title,
                request_options=once(CONNECT_TIMEOUT_S),
                **_given(extra_params),
                **_auth(basic_auth),
            ),
        )
        return _backend(changed)

    def remove_backend(self, backend_id: int) -> None:
        """Disconnect a backend. Its webhook stays."""
        self._call(
            f"disconnect ML backend {backend_id}",
            lambda: self._sdk.ml.delete(backend_id, request_options=again(CONNECT_TIMEOUT_S)),
        )

    def webhooks(self, project_id: int) -> list[Webhook]:
        """The project's webhooks, oldest first."""
        found = self._call(
            f"list webhooks of project {project_id}",
            lambda: self._sdk.webhooks.list(project=str(project_id), request_options=again()),
        )
        return sorted((_webhook(item) for item in found), key=lambda webhook: webhook.id)

    def all_webhooks(self) -> list[Webhook]:
        """The webhooks of every project, in one request, oldest first."""
        found = self._call("list webhooks", lambda: self._sdk.webhooks.list(request_options=again()))
        return sorted((_webhook(item) for item in found), key=lambda webhook: webhook.id)

    def add_webhook(self, project_id: int, url: str, headers: Mapping[str, str]) -> Webhook:
        """Create a webhook that sends all of the project's events to `url`."""
        made = self._call(
            f"create the webhook {url}",
            lambda: self._sdk.webhooks.create(
                project=project_id,
                url=url,
                headers=dict(headers),
                is_active=True,
                send_payload=True,
                send_for_all_actions=True,
                request_options=once(),
            ),
        )
        return _webhook(made)

    def update_webhook(self, webhook: Webhook, headers: Mapping[str, str]) -> Webhook:
        """Set a webhook's headers, and enable it for all actions, with payloads."""
        self._call(
            f"change the webhook {webhook.url}",
            lambda: self._sdk.webhooks.update(
                webhook.id,
                url=webhook.url,
                headers=dict(headers),
                is_active=True,
                send_payload=True,
                send_for_all_actions=True,
                request_options=again(),
            ),
        )
        return replace(webhook, headers=dict(headers), active=True, all_actions=True, payload=True)

    def remove_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        self._call(
            f"delete webhook {webhook_id}", lambda: self._sdk.webhooks.delete(webhook_id, request_options=again())
        )


def _project(item: Any) -> Project:
    return Project(
        id=int(item.id),
        title=item.title or "",
        label_config=item.label_config or "",
        model_version=item.model_version or "",
        shows_predictions=bool(item.show_collab_predictions),
        tasks=int(getattr(item, "task_number", 0) or 0),
        judgements=int(getattr(item, "total_annotations_number", 0) or 0),
        created_at=item.created_at.timestamp() if getattr(item, "created_at", None) else None,
        skips=int(getattr(item, "skipped_annotations_number", 0) or 0),
        votes_per_task=_votes_per_task(item),
    )


def _votes_per_task(item: Any) -> int:
    """How many people are to judge each task; one where that differs from task to task."""
    everywhere = getattr(item, "overlap_cohort_percentage", 100) in (100, None)
    return max(1, int(getattr(item, "maximum_annotations", 1) or 1)) if everywhere else 1


def _given(extra_params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if extra_params is None else {"extra_params": dict(extra_params)}


def _auth(basic_auth: tuple[str, str] | None) -> dict[str, Any]:
    if basic_auth is None:
        return {"auth_method": "NONE"}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": basic_auth[0], "basic_auth_pass": basic_auth[1]}


def _backend(item: Any) -> MLBackend:
    return MLBackend(
        id=int(item.id),
        project=int(item.project),
        url=item.url or "",
        title=item.title or "",
        state=str(item.state or ""),
        error=item.error_message or "",
        model_version=str(item.model_version or ""),
        basic_auth_user=item.basic_auth_user or "",
        extra_params=item.extra_params,
    )


def _webhook(item: Any) -> Webhook:
    return Webhook(
        id=int(item.id),
        url=item.url or "",
        headers=dict(item.headers or {}),
        active=item.is_active is not False,
        all_actions=bool(item.send_for_all_actions),
        payload=bool(item.send_payload),
        project=int(item.project) if getattr(item, "project", None) else None,
    )
