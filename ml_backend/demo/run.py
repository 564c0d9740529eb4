"""Runs the demo: starts the servers, goes through the rounds, prints the report, and cleans up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ml_backend.demo.label_studio_server import find_executable
from ml_backend.demo.loop import DemoLoop
from ml_backend.demo.real_model import SMOLLM2, need_packages, smollm2
from ml_backend.demo.report import COLUMNS, LEGEND, DemoReport
from ml_backend.demo.screen import Screen
from ml_backend.demo.stack import DemoStack
from ml_backend.demo.taste import POSITIVE, Taste, load_taste
from ml_backend.label_studio import Project, open_label_studio
from ml_backend.observe import messages, output, show_table
from ml_backend.processes import told_to_end
from ml_backend.settings import DEMO_MODEL, Settings, load_settings
from training.data import PromptSource, read_rows
from training.errors import ConfigError, RankloopError

DATA = Path(__file__).parent / "data"
PROMPTS = DATA / "prompts.txt"
HELD_OUT_PROMPTS = DATA / "held_out_prompts.txt"
CHAT_PROMPTS = DATA / "chat_prompts.txt"
HELD_OUT_CHAT_PROMPTS = DATA / "chat_held_out_prompts.txt"

MOST_ANNOTATIONS = 200
"""Default number of judgements per round, if there are enough prompts."""
MOST_OF_A_REAL_MODEL = 300
"""The same for a real model, whose reward model has more to learn."""
SPARE_TASKS = 20
"""Prompts left unlabeled at the end, so that the last version's proposals can be seen."""
CONTEST_TASKS = 200
"""Prompts left for contests, where people promote."""
TASKS_PER_JUDGEMENT = 1.12
"""Tasks opened per judgement; the rest are skips."""
_USUALLY_AHEAD: int = Settings.model_fields["propose_ahead"].default

ONE_PROJECT = ("rankloop demo", "")
TWO_PROJECTS = [("First taste", "_first"), ("Second taste", "_second")]
"""Titles of the projects, and what their phases are told apart by."""

FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The user's options.

    rounds: rounds of annotating and training.
    annotations: judgements per round; None chooses.
    preference: `sentiment`, `shorter` or `FILE.py:FUNCTION`; None prefers useful answers, or with another model than
        the demo's own, positive ones.
    second_preference: the taste of the annotator of a second project on the same backend; None for one project.
    report: a JSON file for the figures.
    keep_running: leave everything running at the end, until Ctrl-C.
    model: `smollm2`, a folder, a .gguf file or a hub name; None is the demo's own.
    promotion: `automatic`, or `people` to have the annotator decide on the trained version and on a worse one.
    """

    rounds: int = 2
    annotations: int | None = None
    preference: str | None = None
    report: Path | None = None
    keep_running: bool = False
    second_preference: str | None = None
    model: str | None = None
    promotion: str = "automatic"


def run_demo(options: DemoOptions) -> int:
    """Run the demo, from the main thread. Leaves no process or file behind, even if interrupted.

    Returns:
        0 on success, 1 on failure (the logs are kept, and the message says where), 130 after Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the preference, the number of annotations or Label Studio's installation can't be used.
    """
    if options.promotion not in ("automatic", "people"):
        raise ConfigError("there is no such promotion", got=options.promotion, expected="automatic or people")
    if options.promotion == "people" and options.second_preference is not None:
        raise ConfigError("people decide in one project of the demo", remedy="Leave out --second-preference.")
    tastes = [load_taste(options.preference or (POSITIVE if options.model else None))]
    if options.second_preference is not None:
        tastes.append(load_taste(options.second_preference))
    questions = (CHAT_PROMPTS, HELD_OUT_CHAT_PROMPTS) if options.model else (PROMPTS, HELD_OUT_PROMPTS)
    judgements = judgements_per_round(options, len(_prompts(questions[0])))
    find_executable()
    model = _model(options.model)
    with _interruptible() as ignore_interrupts:
        given: dict[str, object] = {"train_after": judgements, "model": model, "propose_ahead": tasks_ahead(judgements)}
        if options.promotion == "people":
            given |= {"promotion": "people", "contest_share": 1.0}
        stack = DemoStack(Path(tempfile.mkdtemp(prefix="rankloop-demo-")), **given)
        try:
            try:
                return _show(options, stack, tastes, judgements, *questions)
            finally:  # so that even an interrupt between these two lines ends everything, below
                ignore_interrupts()
                stack.stop()
                stack.remove()
        except KeyboardInterrupt:
            stack.stop()
            stack.remove()
            _say("Interrupted. Label Studio, the server and the worker have been stopped, and their data removed.")
            return INTERRUPTED


def judgements_per_round(options: DemoOptions, prompts: int) -> int:
    """How many judgements the annotator makes per round.

    Raises:
        ConfigError: there are too few prompts.
    """
    spare = SPARE_TASKS + (CONTEST_TASKS if options.promotion == "people" else 0)
    most = int((prompts - spare) / options.rounds / TASKS_PER_JUDGEMENT)
    usual = MOST_OF_A_REAL_MODEL if options.model else MOST_ANNOTATIONS
    wanted = options.annotations if options.annotations is not None else min(usual, most)
    if not 0 < wanted <= most:
        raise ConfigError(
            f"the demo's {prompts} prompts aren't enough for {options.rounds} rounds of that many annotations",
            got=wanted,
            expected=f"at most {most} per round",
            remedy="Choose fewer --rounds or fewer --annotations.",
        )
    return wanted


def tasks_ahead(judgements: int) -> int:
    """How many open tasks proposals are made for: those that a round opens, and some to look at after it."""
    return max(_USUALLY_AHEAD, round(judgements * TASKS_PER_JUDGEMENT) + SPARE_TASKS)


def _model(name: str | None) -> str:
    """The base model's folder or name; SmolLM2 is fetched into the data folder if it isn't there yet."""
    if name != SMOLLM2:
        return name or str(DEMO_MODEL)
    need_packages("gguf")
    _say("Preparing SmolLM2-135M-Instruct (100 MB are fetched the first time) ...")
    return str(smollm2(load_settings().home()))


def _show(
    options: DemoOptions, stack: DemoStack, tastes: Sequence[Taste], judgements: int, asked: Path, held_out: Path
) -> int:
    """Run everything that needs the servers; on failure, report it and keep the logs."""
    try:
        with Screen() as screen:
            with screen.phase("start", "Starting Label Studio, the ML backend and its worker"):
                stack.start()
                stack.wait_until_up()
            with open_label_studio(stack.settings) as label_studio:
                names = [ONE_PROJECT] if len(tastes) == 1 else TWO_PROJECTS
                loops = [
                    DemoLoop(stack, label_studio, taste, judgements, screen, title, suffix)
                    for taste, (title, suffix) in zip(tastes, names, strict=True)
                ]
                projects = [loop.open_project(asked) for loop in loops]
                for number in range(1, options.rounds + 1):
                    for loop, project in zip(loops, projects, strict=True):
                        loop.go_round(number, project)
                contests = loops[0].hold_contests(projects[0]) if options.promotion == "people" else []
                questions = _prompts(held_out)
                reports = [loop.evaluate(questions, project) for loop, project in zip(loops, projects, strict=True)]
        report = replace(reports[0], second=reports[1] if len(reports) > 1 else None, contests=contests)
        _conclude(report, options.report)
        if options.keep_running:
            _keep_running(stack, projects[0])
    except RankloopError as error:
        _say(f"rankloop demo: {error}")
        _say(f"Data and logs are kept in {stack.keep()}")
        return FAILED
    return 0


def _conclude(report: DemoReport, path: Path | None) -> None:
    show_table(COLUMNS, report.rows(), title="What was learned from the rankings")
    for pair in [*report.examples, *(report.second.examples if report.second else ())]:
        for label, text in (("Asked", pair.prompt), ("Before", pair.before), ("After", pair.after)):
            output().print(f"{label + ':':<8}{text}", markup=False)
        output().print()
    for figures in report.contests:
        output().print(f"{figures.fate}: {figures.why}", markup=False)
    how = "through its chat template" if report.chat_template else "without a chat template"
    output().print(f"The base model is {report.model}, prompted {how}.", markup=False)
    output().print(f"{LEGEND}\n{report.seconds['total']:.0f} seconds in all.", markup=False)
    if path is not None:
        report.write(path)
        _say(f"The figures are in {path}")


def _keep_running(stack: DemoStack, project: Project) -> None:
    """Leave everything running until Ctrl-C."""
    server, settings = stack.label_studio, stack.settings
    password = settings.basic_auth_pass.get_secret_value() if settings.basic_auth_pass else ""
    _say(
        f"Everything is still running. Continue by hand: {server.url}/projects/{project.id}/data\n"
        f"Log in as {server.username} with the password {server.password}\n"
        f"What the loop does: {settings.page_url()}, log in as {settings.basic_auth_user} with {password}\n"
        f"Every {settings.train_after} new judgements start a training cycle; Start Training does so at once.\n"
        "Ctrl-C stops everything and removes the data."
    )
    while True:
        stack.pause()


def _prompts(path: Path) -> list[str]:
    return [row["prompt"] for row in read_rows(PromptSource(str(path)), "prompt")]


def _say(message: str) -> None:
    messages().print(message, markup=False)


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt and ignore further ones, so that cleanup isn't
    interrupted; yields a function that makes it ignore the first as well.
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
