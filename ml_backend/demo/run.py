"""`rankloop demo`: the whole loop, for real, with a simulated annotator: rankings, reward model, PPO, and back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ml_backend.demo.label_studio_server import find_executable
from ml_backend.demo.loop import BeforeAndAfter, DemoLoop
from ml_backend.demo.report import COLUMNS, LEGEND, DemoReport
from ml_backend.demo.screen import Screen
from ml_backend.demo.stack import DemoStack
from ml_backend.demo.taste import Taste, load_taste
from ml_backend.label_studio import Project, open_label_studio
from ml_backend.observe import messages, output, show_table
from ml_backend.processes import told_to_end
from training.data import PromptSource, read_rows
from training.errors import ConfigError, RankloopError

DATA = Path(__file__).parent / "data"
PROMPTS = DATA / "prompts.txt"
HELD_OUT_PROMPTS = DATA / "held_out_prompts.txt"

MOST_ANNOTATIONS = 200
"""Judgements a round by default, where the prompts suffice."""
SPARE_TASKS = 20
"""Prompts that stay unlabeled at the end, so that the last version's proposals can be looked at."""
TASKS_PER_JUDGEMENT = 1.12
"""Skips come on top of judgements."""

FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the person asked for.

    rounds: of annotating and training.
    annotations: judgements a round; None chooses.
    preference: `FILE.py:FUNCTION`; None prefers useful answers.
    report: a JSON file for the figures.
    keep_running: leave everything running at the end, until Ctrl-C.
    """

    rounds: int = 2
    annotations: int | None = None
    preference: str | None = None
    report: Path | None = None
    keep_running: bool = False


def run_demo(options: DemoOptions) -> int:
    """Show the loop, from the main thread. Leaves no process and no file behind, also when it is interrupted.

    Returns:
        0 when all went well, 1 when something broke on the way (then the logs are kept, and the message says where),
        130 after Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the preference, the number of annotations or Label Studio's installation can't be used.
    """
    taste = load_taste(options.preference)
    judgements = judgements_per_round(options, len(_prompts(PROMPTS)))
    find_executable()
    with _interruptible() as ignore_interrupts:
        stack = DemoStack(Path(tempfile.mkdtemp(prefix="rankloop-demo-")), train_after=judgements)
        try:
            try:
                return _show(options, stack, taste, judgements)
            finally:  # also an interrupt that comes between these two lines ends everything, below
                ignore_interrupts()
                stack.stop()
                stack.remove()
        except KeyboardInterrupt:
            stack.stop()
            stack.remove()
            _say("Interrupted. Label Studio, the server and the worker have ended, and their data is removed.")
            return INTERRUPTED


def judgements_per_round(options: DemoOptions, prompts: int) -> int:
    """How many judgements the annotator makes in a round.

    Raises:
        ConfigError: there are too few prompts for so many.
    """
    most = int((prompts - SPARE_TASKS) / options.rounds / TASKS_PER_JUDGEMENT)
    wanted = options.annotations if options.annotations is not None else min(MOST_ANNOTATIONS, most)
    if not 0 < wanted <= most:
        raise ConfigError(
            f"the demo's {prompts} prompts don't suffice for {options.rounds} rounds of so many annotations",
            got=wanted,
            expected=f"at most {most} a round",
            remedy="Choose fewer --rounds or fewer --annotations.",
        )
    return wanted


def _show(options: DemoOptions, stack: DemoStack, taste: Taste, judgements: int) -> int:
    """Everything between the first process and the last; what breaks is said, and its logs are kept."""
    try:
        with Screen() as screen:
            with screen.phase("start", "Starting Label Studio, the ML backend and its worker"):
                stack.start()
                stack.wait_until_up()
            with open_label_studio(stack.settings) as label_studio:
                loop = DemoLoop(stack, label_studio, taste, judgements, screen)
                project = loop.open_project(PROMPTS)
                for number in range(1, options.rounds + 1):
                    loop.go_round(number, project)
                report, shown = loop.evaluate(_prompts(HELD_OUT_PROMPTS), project)
        _conclude(report, shown, options.report)
        if options.keep_running:
            _keep_running(stack, project)
    except RankloopError as error:
        _say(f"rankloop demo: {error}")
        _say(f"Data and logs are kept in {stack.keep()}")
        return FAILED
    return 0


def _conclude(report: DemoReport, shown: BeforeAndAfter, path: Path | None) -> None:
    show_table(COLUMNS, report.rows(), title="What the rankings taught")
    for label, text in (("Asked", shown.prompt), ("Before", shown.before), ("After", shown.after)):
        output().print(f"{label + ':':<8}{text}", markup=False)
    output().print(f"\n{LEGEND}\n{report.seconds['total']:.0f} seconds in all.", markup=False)
    if path is not None:
        report.write(path)
        _say(f"The figures are in {path}")


def _keep_running(stack: DemoStack, project: Project) -> None:
    """Until Ctrl-C."""
    server = stack.label_studio
    _say(
        f"Everything still runs. Go on by hand: {server.url}/projects/{project.id}/data\n"
        f"Log in as {server.username} with the password {server.password}\n"
        f"Every {stack.settings.train_after} new judgements start a training cycle; Start Training does so at once.\n"
        "Ctrl-C ends it and removes its data."
    )
    while True:
        stack.pause()


def _prompts(path: Path) -> list[str]:
    return [row["prompt"] for row in read_rows(PromptSource(str(path)), "prompt")]


def _say(message: str) -> None:
    messages().print(message, markup=False)


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt, and further ones do nothing, so that ending is not
    interrupted; yields a function that makes the first do nothing either.
    """
    over = False

    def interrupt() -> None:
        nonlocal over
        if not over:
            over = True
            raise KeyboardInterrupt

    def ignore() -> None:
        nonlocal over
        over = True

    with told_to_end(interrupt):
        yield ignore
