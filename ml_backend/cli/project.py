"""Commands for a project's tasks and judgements: init-project, propose, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli.handover import ExportForm, ExportTarget, export_folder
from ml_backend.cli.options import ProjectOption, project_id_from, settings_from

if TYPE_CHECKING:
    from ml_backend.settings import Settings


def init_project(
    title: Annotated[str, typer.Option(help="Title of the project to find or create.")] = "rankloop",
    project: Annotated[int | None, typer.Option("--project", help="Id of an existing project to use instead.")] = None,
    label_config: Annotated[
        Path | None, typer.Option(help="XML file. By default a project keeps its own, and a new one gets live pairs.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="Prompts to import: a .txt, .csv, .tsv, .json or .jsonl file, or the name of a dataset."),
    ] = None,
    prompt_field: Annotated[
        list[str] | None,
        typer.Option(help="Column that holds the prompt, or text of the label config that is it; several are joined."),
    ] = None,
    reference_field: Annotated[
        str | None, typer.Option(help="Column with reference answers, if it isn't reference, summary or completion.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The prompts' encoding, such as cp1252.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse prompts of which one row can't be used.")] = False,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Import at most this many prompts, drawn at random.")] = None,
    connect: Annotated[bool, typer.Option(help="Connect the running backend and secure its webhook.")] = True,
    line: Annotated[
        str | None, typer.Option(help="Line of versions to share with other projects; by default it has its own.")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option(help="What a chat model is told before each prompt.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer, instead of the backend's.")] = None,
    train_after: Annotated[int | None, typer.Option(help="New judgements that start training, likewise.")] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds in which a prompt gets a fresh pair from a newer version, likewise.")
    ] = None,
    tries: Annotated[
        int | None, typer.Option(help="Pairs a prompt gets per round while people call both bad, likewise.")
    ] = None,
    promotion: Annotated[
        str | None,
        typer.Option(metavar="automatic|people", help="Who promotes a version that passed its gates, likewise."),
    ] = None,
    top_up: Annotated[
        int | None,
        typer.Option(help="Tasks with fresh answers that always wait, where tasks hold the answers, likewise."),
    ] = None,
    repeats: Annotated[
        float | None, typer.Option(help="Share of judged live pairs that are shown once more, 0 to 0.5, likewise.")
    ] = None,
) -> None:
    """Create a project in Label Studio, connect the backend, and import prompts. Safe to repeat.

    The backend must be running (`rankloop up`). Prompts the project already has are not imported twice. The last nine
    options are stored in Label Studio, with the connection; repeat the command to change one.

    Examples:

    `rankloop init-project --prompts prompts.txt`

    `rankloop init-project --project 7 --prompts questions.csv --prompt-field question`

    `rankloop init-project --label-config mine.xml --prompt-field system --prompt-field question`

    `rankloop init-project --title Summaries --prompts trl-lib/tldr --split validation --limit 500`

    `rankloop init-project --title "Summaries, team B" --line summaries --train-after 100`
    """
    from ml_backend.label_studio import BackendAddress, open_label_studio
    from ml_backend.label_studio import init_project as make_ready
    from ml_backend.lines import read_extra_params
    from ml_backend.observe import progress_bar
    from training.data import PromptSource, Reading, read_text
    from training.errors import ConfigError

    reading = Reading(encoding, strict, reference_field)
    given = {"line": line, "system_prompt": system_prompt, "max_new_tokens": max_new_tokens, "train_after": train_after}
    given |= {"rounds": rounds, "tries": tries, "promotion": promotion, "top_up": top_up}
    own = read_extra_params({**given, "repeats": repeats}).as_extra_params()
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
            prompts=PromptSource(prompts, None, split, limit, reading) if prompts else None,
            prompt_fields=prompt_field or (),
            extra_params=own,
            on_progress=on_progress,
        )
    typer.echo(f"Project {done.project.id} {done.project.title!r} asks for {done.kind} judgements.")
    if done.backend:
        typer.echo(f"It is connected to {done.backend.url}, and its webhook sends the configured credentials.")
    if prompts:
        typer.echo(f"Imported {done.imported} prompts; {done.already_there} were already there.")
    if done.left_out:
        typer.echo(f"{prompts}: {done.left_out}.", err=True)
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
    name: Annotated[
        str | None,
        typer.Argument(metavar="LINE|VERSION", help="With --to: a line, or a version to get what it learned from."),
    ] = None,
    to: Annotated[
        ExportTarget | None,
        typer.Option(help="Write a folder with all that the line learns from, for TRL, `datasets`, or as JSON lines."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write. Without --to, a file of JSON lines.", show_default="preferences.jsonl"),
    ] = None,
    form: Annotated[
        ExportForm | None,
        typer.Option(help="With --to: texts or messages. By default messages if the model has a chat template."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --to: replace the folder, with everything in it.")
    ] = False,
    from_file: Annotated[
        Path | None,
        typer.Option(help="An export (JSON, JSON_MIN, CSV, zip) or a folder of target storage, instead of the server."),
    ] = None,
    label_config: Annotated[
        Path | None,
        typer.Option(help="The labeling configuration of --from-file; without it only columns named by side are read."),
    ] = None,
    prompt_field: Annotated[
        list[str] | None,
        typer.Option(help="Text of the label config that is the prompt, where it shows several; several are joined."),
    ] = None,
    ground_truth: Annotated[
        str | None, typer.Option(help="Ground-truth annotations: vote, only or ignore. Default: RANKLOOP_GROUND_TRUTH.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Write judgements as preferences in TRL's format, and print what became of each annotation as JSON.

    With --to, write everything that a line learns from (preferences, answers that people rewrote, prompts), in the
    parts that the line uses: train, selection, test.

    Exits with status 1 if there is no preference to write, and says why.

    Examples:

    `rankloop export --project 7 --out preferences.jsonl`

    `rankloop export --from-file export.json --label-config label_config.xml`

    `rankloop export project-7 --to trl --out summaries`

    `rankloop export rankloop.project-7-v3 --to datasets --out learned-from`
    """
    from training.errors import ConfigError

    settings = settings_from(ground_truth=ground_truth)
    if to is not None:
        if from_file or label_config or prompt_field or project is not None:
            raise ConfigError(
                "--to writes a line or a version", remedy="Leave out --from-file, --project and the like."
            )
        if out is None:
            raise ConfigError("--to writes a folder", remedy="Name it with --out.")
        export_folder(settings, name, out, to, form, force=force)
        return
    if name is not None or form or force:
        raise ConfigError("a line or a version is written as a folder", remedy="Add --to trl, datasets or jsonl.")
    _export_project(settings, out or Path("preferences.jsonl"), from_file, label_config, prompt_field or [], project)


def _export_project(
    settings: Settings,
    out: Path,
    from_file: Path | None,
    label_config: Path | None,
    fields: list[str],
    project: int | None,
) -> None:
    from ml_backend.label_studio import open_label_studio
    from ml_backend.labels import parse_label_config
    from ml_backend.loop import export_preferences, read_export_file
    from training.data import read_text

    config = parse_label_config(read_text(label_config), fields) if label_config else None
    if from_file is not None:
        tasks = read_export_file(from_file)
    else:
        project = project_id_from(settings, project)
        with open_label_studio(settings) as label_studio:
            config = config or parse_label_config(label_studio.project(project).label_config, fields)
            tasks = label_studio.export_tasks(project)
    summary = export_preferences(tasks, out, config, project, settings.ground_truth)
    typer.echo(json.dumps(asdict(summary), indent=2))
    nothing = summary.nothing_found()
    if nothing:
        typer.echo(f"{nothing} Nothing was written.", err=True)
        raise typer.Exit(1)
