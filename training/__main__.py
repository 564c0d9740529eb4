"""Each stage of training on plain files, for scripts, notebooks and rankloop's worker.

**sft** fine-tunes a model on the answers in a file. **reward** learns from preferences how much people like an
answer. **ppo** trains a policy to write higher-scoring answers while staying close to its base. **evaluate** compares
a policy with its base. **cycle** runs reward, gate, ppo and gate in sequence.

Every command resumes an unfinished run of the same inputs in `--out`, does nothing if that run has finished, and
locks the folder against other processes. `--out` receives report.json, curves.png and, during the run, progress.json.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from training.errors import RankloopError

if TYPE_CHECKING:
    from training.stages import Options


class _Commands(TyperGroup):
    """Commands that report errors as one line on stderr and exit with status 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command."""
        try:
            return super().invoke(ctx)
        except RankloopError as error:
            print(f"Error: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            print("Interrupted. Run the same command again to resume from the last checkpoint.", file=sys.stderr)
            raise SystemExit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Model = Annotated[str, typer.Option(help="Base model: a folder, or a name on the Hugging Face hub such as gpt2.")]
Out = Annotated[Path, typer.Option(help="Output folder, created if missing.")]
Preferences = Annotated[
    Path, typer.Option(help='Rows of {"prompt", "chosen", "rejected"}, in TRL\'s formats: .jsonl, .json, .csv, .tsv.')
]
Prompts = Annotated[
    Path, typer.Option(help='.txt (one per line), or .jsonl, .json, .csv, .tsv of {"prompt", "reference"?}.')
]
RewardModelFolder = Annotated[Path, typer.Option("--reward-model", help="The folder that `reward` wrote to.")]
Config = Annotated[
    Path | None,
    typer.Option(help="JSON file of settings, see training/config/. Default: the model folder's, else built in."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
TaskName = Annotated[
    Literal["answers", "tldr"],
    typer.Option(
        "--task", help="tldr: Reddit TL;DR, as a hub name, a file (.jsonl, .csv, .parquet) or a folder; see docs."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="With --task tldr, the maximum number of rows to read.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a file of which one row can't be used.")]
Encoding = Annotated[str | None, typer.Option(help="The files' encoding, such as cp1252. Default: UTF-8.")]
ReferenceField = Annotated[
    str | None, typer.Option(help="Column with answers people wrote, if not reference, summary or completion.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Hide the bar and the table; progress.json is still written.")]


@app.callback(help=__doc__)
def commands() -> None:
    """Carry the help text shared by all commands."""


@app.command()
def sft(
    model: Model,
    data: Annotated[Path, typer.Option(help='JSON lines of {"prompt", "answer"}.')],
    out: Out,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train every layer, on the prompts too: for an untrained model.")
    ] = False,
    task: TaskName = "answers",
    limit: Limit = None,
    strict: Strict = False,
    encoding: Encoding = None,
    reference_field: ReferenceField = None,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Supervised training: fine-tune a model on the answers in a file. Writes `out/policy`.

    Without --from-scratch it trains on the answers only, and only the layers that PPO trains, so that PPO can take the
    result as its --policy. Runs on several processes under `accelerate launch -m training sft ...` or `torchrun`.
    """
    from training.data import Reading, Task
    from training.stages import run_sft

    options = _options(out, config, model, device, quiet)
    if from_scratch:
        changed = options.config.sft.model_copy(update={"trainable_layers": "all", "learn_prompts": True})
        options = replace(options, config=options.config.model_copy(update={"sft": changed}))
    run_sft(options, model, data, Task(task, limit, Reading(encoding, strict, reference_field)))


@app.command()
def reward(
    model: Model,
    preferences: Preferences,
    out: Out,
    task: TaskName = "answers",
    limit: Limit = None,
    strict: Strict = False,
    encoding: Encoding = None,
    reference_field: ReferenceField = None,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a reward model on preferences, starting from the base with its lower layers frozen.

    A hash of each prompt holds out a seventh for model selection and a seventh for the test accuracy in the report.
    """
    from training.data import Reading, Task
    from training.stages import run_reward

    run_reward(
        _options(out, config, model, device, quiet),
        model,
        preferences,
        Task(task, limit, Reading(encoding, strict, reference_field)),
    )


@app.command()
def ppo(
    model: Model,
    reward_model: RewardModelFolder,
    prompts: Prompts,
    out: Out,
    policy: Annotated[str | None, typer.Option(help="Version to start from. Default: the base.")] = None,
    champion: Annotated[str | None, typer.Option(help="Version to beat. Default: the one to start from.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Where the KL is measured from, for instance sft's out/policy. Default: the base."),
    ] = None,
    preferences: Annotated[Path | None, typer.Option(help="Preferences, for algorithm dpo.")] = None,
    task: TaskName = "answers",
    limit: Limit = None,
    strict: Strict = False,
    encoding: Encoding = None,
    reference_field: ReferenceField = None,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Reinforcement learning: raise the answers' scores, kept near the base by a KL penalty. Writes `out/policy`."""
    from training.data import Reading, Task
    from training.stages import PPOInputs, run_ppo

    given = PPOInputs(model, reward_model, prompts, policy, champion, reference, preferences)
    options = _options(out, config, model, device, quiet)
    run_ppo(options, given, Task(task, limit, Reading(encoding, strict, reference_field)))


@app.command()
def evaluate(
    model: Model,
    policy: Annotated[str, typer.Option(help="The policy to evaluate, for instance ppo's out/policy.")],
    reward_model: RewardModelFolder,
    prompts: Prompts,
    out: Out,
    preferences: Annotated[
        Path | None, typer.Option(help="Preferences to measure the reward model's accuracy on, by their test part.")
    ] = None,
    all_prompts: Annotated[bool, typer.Option("--all-prompts", help="Answer training prompts as well.")] = False,
    task: TaskName = "answers",
    limit: Limit = None,
    strict: Strict = False,
    encoding: Encoding = None,
    reference_field: ReferenceField = None,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Compare a policy's fresh answers with the base's on held-out prompts: win rate, KL, length."""
    from training.data import Reading, Task
    from training.stages import run_evaluate

    options = _options(out, config, model, device, quiet)
    chosen = Task(task, limit, Reading(encoding, strict, reference_field))
    run_evaluate(options, model, policy, reward_model, prompts, preferences, chosen, all_prompts=all_prompts)


@app.command()
def cycle(
    model: Model,
    preferences: Preferences,
    prompts: Prompts,
    out: Out,
    policy: Annotated[str | None, typer.Option(help="Version to start from. Default: the base.")] = None,
    demonstrations: Annotated[
        Path | None, typer.Option(help='Answers people wrote, JSON lines of {"prompt", "answer"}, trained on first.')
    ] = None,
    config: Config = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run a whole cycle: reward model, gate, PPO, gate. Exits with status 3 if a gate fails; report.json says why."""
    from training.cycle_on_files import CycleInputs, run_cycle_on_files

    inputs = CycleInputs(model, policy, preferences, prompts, demonstrations)
    if not run_cycle_on_files(_options(out, config, model, device, quiet), inputs):
        raise typer.Exit(3)


def _options(out: Path, config: Path | None, model: str, device: str, quiet: bool) -> Options:
    from training.config import CycleConfig
    from training.stages import Options

    settings = CycleConfig.from_file(config).suited_to(model) if config else CycleConfig.for_model(model)
    return Options(out, settings, device, quiet)


if __name__ == "__main__":
    app()
