"""What several commands share: the project option, the settings, and the project that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ml_backend.registry import Registry
    from ml_backend.settings import Settings

ProjectOption = Annotated[
    int | None, typer.Option("--project", help="The project's id; not needed if only one uses this backend.")
]

LineOption = Annotated[
    str | None, typer.Option("--line", help="The line, as `rankloop status` lists it; not needed if there is only one.")
]


def settings_from(**overrides: object) -> Settings:
    """The settings, overridden by those given on the command line."""
    from ml_backend.settings import load_settings

    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


def project_id_from(settings: Settings, given: int | None) -> int:
    """The project named on the command line, else the one that is connected to this backend."""
    from ml_backend.label_studio import choose_project, open_label_studio

    if given is not None:
        return given
    with open_label_studio(settings) as label_studio:
        return choose_project(label_studio, settings.public_url(), settings.model_name).id


def line_from(registry: Registry, given: str | None) -> str:
    """The line named on the command line, else the only one there is.

    Raises:
        RegistryError: there is no such line, or there are several and none was named.
    """
    if given is None:
        return registry.only_line()
    registry.must_exist(given)
    return given
