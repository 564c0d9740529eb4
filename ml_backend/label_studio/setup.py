"""Sets up a Label Studio project for ranking: label config, ML backend, webhook, prompts. Idempotent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_backend.errors import LabelConfigError
from ml_backend.label_studio.client import LabelStudio
from ml_backend.label_studio.connection import BackendAddress, connect_backend, connected_projects, secure_webhook
from ml_backend.label_studio.records import MLBackend, Progress, Project, Webhook
from ml_backend.labels import LabelConfig, parse_label_config, with_prompt_fields
from training.data import LeftOut, PromptSource, Row, messages_key, read_rows
from training.errors import ConfigError

DEFAULT_TITLE = "rankloop"
LABEL_CONFIG_FILE = "label_config.xml"


@dataclass(frozen=True, slots=True)
class ReadyProject:
    """The outcome of `init_project`. `left_out` says which rows of the prompts couldn't be used, if any."""

    project: Project
    kind: str
    backend: MLBackend | None
    webhook: Webhook | None
    imported: int
    already_there: int
    left_out: str | None = None


def init_project(
    label_studio: LabelStudio,
    address: BackendAddress | None,
    *,
    title: str = DEFAULT_TITLE,
    project_id: int | None = None,
    label_config: str | None = None,
    prompts: PromptSource | None = None,
    prompt_fields: Sequence[str] = (),
    extra_params: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> ReadyProject:
    """Create or adopt a project, connect the backend with its credentials, and import prompts it doesn't have yet.

    Args:
        label_studio: the server.
        address: the backend to connect; None leaves the project unconnected.
        title: the project's title, where `project_id` is None.
        project_id: a project to adopt.
        label_config: its XML; None keeps the project's own, or uses `label_config.xml` for a new one.
        prompts: what to import.
        prompt_fields: the texts of the label config that are the prompt, in order, where it shows several: a comment in
            the label config then says so. One that the config doesn't show is the prompts' column.
        extra_params: the project's own settings of the backend, added to those it has.
        on_progress: called with the number of prompts imported and the total.

    Raises:
        LabelStudioError: Label Studio refused a request; completed steps stay, and a repeat continues from there.
        LabelConfigError: the label config has no answers to compare, or leaves open what the prompt is.
        DataError: the prompts can't be read.
    """
    if label_config is not None:
        label_config = _noted(label_config, prompt_fields)
    project = _ensure(label_studio, title, project_id, label_config)
    noted = _noted(project.label_config, prompt_fields)
    if noted != project.label_config:
        project = label_studio.update_project(project.id, label_config=noted)
    config = parse_label_config(noted)
    left_out = LeftOut()
    rows = _rows(prompts, config, prompt_fields, left_out) if prompts else []
    backend = webhook = None
    if address is not None:
        backend = connect_backend(label_studio, project.id, address, extra_params)
        webhook = secure_webhook(label_studio, project.id, address)
    new = _unknown_rows(label_studio, project.id, rows, config) if rows else []
    if new:
        label_studio.import_tasks(project.id, new, on_progress)
    project = label_studio.project(project.id)
    lost = left_out.in_words() if left_out.rows else None
    return ReadyProject(project, config.kind, backend, webhook, len(new), len(rows) - len(new), lost)


def reconnect(label_studio: LabelStudio, address: BackendAddress) -> list[Project]:
    """Give every project that is connected to this address the backend's current credentials. Idempotent.

    Returns:
        The projects, whose ML backend and webhook now carry them.
    """
    projects = connected_projects(label_studio, address.url, address.title)
    for project in projects:
        connect_backend(label_studio, project.id, address)
        secure_webhook(label_studio, project.id, address)
    return projects


def default_label_config() -> str:
    """The live label config: `label_config.xml` in the working directory, else the one packaged with rankloop.

    Raises:
        ConfigError: there is neither.
    """
    for folder in (Path.cwd(), Path(__file__).parents[1]):
        path = folder / LABEL_CONFIG_FILE
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise ConfigError(f"there is no {LABEL_CONFIG_FILE} here", remedy="Name one with --label-config FILE.")


def data_keys(config: LabelConfig) -> tuple[str | None, list[str]]:
    """The key of a task's data that holds the prompt, if it is a single one, and all other keys that must be there."""
    return config.prompt_key, [key for key in config.keys if key != config.prompt_key]


def _noted(label_config: str, prompt_fields: Sequence[str]) -> str:
    """The label config with a note of which texts are the prompt, where that isn't clear without one.

    Raises:
        LabelConfigError: it can't be used, or isn't clear.
    """
    if not prompt_fields:
        parse_label_config(label_config)
        return label_config
    try:
        chosen = parse_label_config(label_config, prompt_fields)
    except LabelConfigError:
        if len(prompt_fields) > 1:
            raise
        parse_label_config(label_config)  # so the one field is a column of the prompts
        return label_config
    try:
        known: LabelConfig | None = parse_label_config(label_config)
    except LabelConfigError:
        known = None
    return label_config if known == chosen else with_prompt_fields(label_config, prompt_fields)


def _rows(source: PromptSource, config: LabelConfig, prompt_fields: Sequence[str], left_out: LeftOut) -> list[Row]:
    """The tasks' data. A tag that shows a conversation gets its messages, any other its words."""
    shown = {name for field in config.prompts for name in (field.name, field.key)}
    if len(prompt_fields) == 1 and prompt_fields[0] not in shown:
        source = replace(source, field=prompt_fields[0])
    rows = read_rows(source, *data_keys(config), left_out)
    for field in config.prompts:
        if field.form == "messages" and len(config.prompts) == 1:
            for row in rows:
                kept = row.pop(messages_key(str(field.key)), None)
                turns = kept or [{"role": "user", "content": row[str(field.key)]}]
                row[str(field.key)] = [{field.who: turn["role"], field.what: turn["content"]} for turn in turns]
    return rows


def _ensure(label_studio: LabelStudio, title: str, project_id: int | None, label_config: str | None) -> Project:
    if project_id is None and label_config is None and not label_studio.projects(title):
        label_config = default_label_config()
    project = label_studio.ensure_project(title, label_config, project_id=project_id)
    if label_config is None and _is_blank(project.label_config):
        return label_studio.update_project(project.id, label_config=default_label_config())
    return project


def _is_blank(label_config: str) -> bool:
    return "".join(label_config.split()) in {"", "<View></View>", "<View/>"}


def _unknown_rows(label_studio: LabelStudio, project_id: int, rows: Iterable[Row], config: LabelConfig) -> list[Row]:
    """Rows that the project has no task for yet, without duplicates."""
    keys = config.keys
    seen = {_identity(task["data"], keys) for task in label_studio.tasks(project_id)}
    new = []
    for row in rows:
        identity = _identity(row, keys)
        if identity not in seen:
            seen.add(identity)
            new.append(row)
    return new


def _identity(data: Mapping[str, Any], keys: Iterable[str]) -> str:
    """What makes two tasks the same question: the texts they show, whitespace aside."""
    shown = [data.get(key) for key in keys]
    return json.dumps([" ".join(value.split()) if isinstance(value, str) else value for value in shown], sort_keys=True)
