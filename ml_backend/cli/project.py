"""Commands for a project's tasks and judgements: init-project, propose, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli.options import ProjectOption, project_id_from, settings_from


def init_project(
    title: Annotated[str, typer.Option(help="Title of the project to find or create.")] = "rankloop",
    project: Annotated[int | None, typer.Option("--project", help="Id of an existing project to use instead.")] = None,
    label_config: Annotated[
        Path | None, typer.Option(help="XML file. By default a project keeps its own, and a new one gets live pairs.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Prompts to import: a .txt, .jsonl or .csv file, or the name of a dataset.")
    ] = None,
    prompt_field: Annotated[str, typer.Option(help="Column that holds the prompt.")] = "prompt",
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Import at most this many prompts, drawn at random.")] = None,
    connect: Annotated[bool, typer.Option(help="Connect the running backend and secure its webhook.")] = True,
    line: Annotated[
        str | None, typer.Option(help="Line of versions to share with other projects; by default it has its own.")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option(help="What a chat model is told before each prompt.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer, instead of the backend's.")] = None,
    train_after: Annotated[int | None, typer.Option(help="New judgements that start training, likewise.")] = None,
) -> None:
    """Create a project in Label Studio, connect the backend, and import prompts. Safe to repeat.

    The backend must be running (`rankloop up`). Prompts the project already has are not imported twice. The last four
    options are stored in Label Studio, with the connection; repeat the command to change one.

    Examples:

    `rankloop init-project --prompts prompts.txt`

    `rankloop init-project --project 7 --prompts questions.csv --prompt-field question`

    `rankloop init-project --title Summaries --prompts trl-lib/tldr --split validation --limit 500`

    `rankloop init-project --title "Summaries, team B" --line summaries --train-after 100`
    """
    from ml_backend.label_studio import BackendAddress, open_label_studio
    from ml_backend.label_studio import init_project as make_ready
    from ml_backend.lines import ProjectSettings, read_extra_params
    from ml_backend.observe import progress_bar
    from training.data import PromptSource, read_text
    from training.errors import ConfigError

    own = ProjectSettings(line, system_prompt, max_new_tokens, train_after).as_extra_params()
    read_extra_params(own)  # checks them
    if own and not connect:
        raise ConfigError("a project's own settings are stored with its connection", remedy="Leave out --no-connect.")
    settings = settings_from()
    xml = read_text(label_config) if label_config else None
    with open_label_studio(settings) as label_studio, progress_bar("importing prompts") as on_progress:
        done = make_ready(
            label_studio,
            BackendAddress.from_settings(settings) if connect else None,
            title=title,
            project_id=project,
            label_config=xml,
            prompts=PromptSource(prompts, prompt_field, split, limit) if prompts else None,
            extra_params=own,
            on_progress=on_progress,
        )
    typer.echo(f"Project {done.project.id} {done.project.title!r} asks for {done.kind} judgements.")
    if done.backend:
        typer.echo(f"It is connected to {done.backend.url}, and its webhook sends the configured credentials.")
    if prompts:
        typer.echo(f"Imported {done.imported} prompts; {done.already_there} were already there.")
    typer.echo(f"Label at {label_studio.url}/projects/{done.project.id}/data")


def propose(project: ProjectOption = None) -> None:
    """Propose the champion's answers for every task without any. The worker does it in the background.

    Example: `rankloop propose --project 7`
    """
    from ml_backend.loop import Jobs

    settings = settings_from()
    number = project_id_from(settings, project)
    Jobs(settings).propose(number)
    typer.echo(f"Proposals for project {number} are queued; watch them with: rankloop status")


def export(
    out: Annotated[Path, typer.Option(help="Where to write preferences, as JSON lines.")] = Path("preferences.jsonl"),
    from_file: Annotated[
        Path | None, typer.Option(help="A JSON export from Label Studio, instead of asking the server.")
    ] = None,
    label_config: Annotated[
        Path | None, typer.Option(help="The labeling configuration of --from-file; by default inferred from results.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Write judgements as preferences in TRL's format, and print what became of each annotation as JSON.

    Examples:

    `rankloop export --project 7 --out preferences.jsonl`

    `rankloop export --from-file export.json --out preferences.jsonl`
    """
    from ml_backend.label_studio import open_label_studio
    from ml_backend.labels import parse_label_config
    from ml_backend.loop import export_preferences, read_export_file
    from training.data import read_text

    config = parse_label_config(read_text(label_config)) if label_config else None
    if from_file is not None:
        tasks = read_export_file(from_file)
    else:
        settings = settings_from()
        project = project_id_from(settings, project)
        with open_label_studio(settings) as label_studio:
            config = config or parse_label_config(label_studio.project(project).label_config)
            tasks = label_studio.export_tasks(project)
    summary = export_preferences(tasks, out, config, project)
    typer.echo(json.dumps(asdict(summary), indent=2))
