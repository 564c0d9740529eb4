"""Projects: find, create, adopt."""

from __future__ import annotations

from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.records import Project
from ml_backend.label_studio.session import Session, again, once


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
        found: list[Any] = self._call(
            "list projects", lambda: list(self._sdk.projects.list(title=title, request_options=again()))
        )
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
    )
