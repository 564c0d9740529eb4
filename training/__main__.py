"""`python -m training`: each stage of training on plain files, for scripts, notebooks and the worker.

Every command resumes when `--out` holds an unfinished run of the same inputs, does nothing when it holds a finished
one, and lets no second process write there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.errors import RankloopError

if TYPE_CHECKING:
    from training.config import CycleConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Model = Annotated[str, typer.Option(help="Base model: a folder, or a name on the Hugging Face hub such as gpt2.")]
Out = Annotated[Path, typer.Option(help="Folder for the outcome, made if it isn't there.")]
Config = Annotated[
    Path | None, typer.Option(help="JSON file of settings (training/config.py names them); else the model's own.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show neither bar nor table; progress.json is still written.")]


@app.callback(help=__doc__)
def stages_of_training() -> None:
    """Without this a single command would lose its name."""


@app.command()
def sft(
    model: Model,
    data: Annotated[Path, typer.Option(help='JSON lines of {"prompt", "answer"}.')],
    out: Out,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Train every layer, and on the prompts too: for a model without training."),
    ] = False,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Supervised training: make the answers in a file more likely. Leaves `out/policy`.

    Without --from-scratch only the answers are learned, by the layers that PPO trains, so that the outcome can be
    PPO's --policy.
    """
    from training import stages

    settings = _settings(config, model)
    if from_scratch:
        changed = settings.sft.model_copy(update={"trainable_layers": "all", "learn_prompts": True})
        settings = settings.model_copy(update={"sft": changed})
    stages.run_sft(stages.Options(out, settings, device, quiet), model, data)


def _settings(config: Path | None, model: str) -> CycleConfig:
    from training.config import CycleConfig

    return CycleConfig.from_file(config) if config else CycleConfig.for_model(model)


def main() -> None:
    """Run a command; a fault is one line on stderr and exit status 2."""
    try:
        app()
    except RankloopError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
