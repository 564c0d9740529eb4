"""The demo's phases in order: project, judging, training, new proposals, repeated, and a final comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ml_backend.contest import shown_name
from ml_backend.demo.annotator import SimulatedAnnotator, annotate_round
from ml_backend.demo.contest import ContestFigures, hold_contest, register_worse
from ml_backend.demo.evaluation import ANSWERS_PER_PROMPT, FreshAnswers, compare, fresh_answers
from ml_backend.demo.report import BeforeAndAfter, DemoReport, base_figures, trained_figures
from ml_backend.demo.screen import Phase, Screen
from ml_backend.demo.stack import DemoStack
from ml_backend.demo.taste import Taste
from ml_backend.label_studio import BackendAddress, LabelStudio, Project, init_project
from ml_backend.lines import own_line
from ml_backend.loop import CycleJob, Jobs
from ml_backend.registry import Registry, Version, read_record
from training.data import PromptSource
from training.errors import RankloopError

PROPOSALS_TIMEOUT_S = 1800.0
PROPOSALS_POLL_S = 3.0
"""Each look lists all open tasks, which takes half a second of a processor that proposing needs."""
EXAMPLES = 3
CYCLE_TIMEOUT_S = 3600.0
STEPS = {
    "snapshot": "reading the annotations",
    "preferences": "converting them to preferences",
    "sft": "imitating rewritten answers",
    "reward": "training the reward model",
    "reward gate": "judging the reward model",
    "ppo": "training the policy with PPO",
    "policy gate": "judging the policy",
    "register": "registering the version",
}
"""What is displayed while a step of a training cycle runs; other steps show their own names."""


class CycleFailedError(RankloopError):
    """A training cycle failed."""


class DemoLoop:
    """Runs the loop of one project against running servers.

    Args:
        stack: the running servers.
        label_studio: a client of that Label Studio.
        taste: the annotator's preference.
        judgements: judgements per round.
        screen: shows the phases.
        title: the project's title.
        suffix: is added to the names of its phases, where several projects have some.
    """

    def __init__(
        self,
        stack: DemoStack,
        label_studio: LabelStudio,
        taste: Taste,
        judgements: int,
        screen: Screen,
        title: str = "rankloop demo",
        suffix: str = "",
    ) -> None:
        self._stack = stack
        self._label_studio = label_studio
        self._registry = Registry(stack.settings)
        self._jobs = Jobs(stack.settings)  # reports training cycles, but never requests one
        self._taste = taste
        self._annotator = SimulatedAnnotator(taste)
        self._judgements = judgements
        self._screen = screen
        self._title = title
        self._suffix = suffix
        self._seen: set[str] = set()

    def open_project(self, prompts: Path) -> Project:
        """Create the project, connect the backend, import the prompts, and wait for all proposals."""
        with self._phase("import", "Importing prompts, proposing answers") as phase:
            address = BackendAddress.from_settings(self._stack.settings)
            source = PromptSource(str(prompts))
            ready = init_project(self._label_studio, address, title=self._title, prompts=source)
            phase.note("two answers each")
            self._wait_for_proposals(ready.project, phase)
        return ready.project

    def go_round(self, number: int, project: Project) -> None:
        """Judge the champion's proposals, then wait for the cycle that the webhooks start, and for new proposals.

        Raises:
            CycleFailedError: the cycle failed. (Rejection by a gate is no failure: the champion stays.)
        """
        with self._phase(f"annotate_{number}", f"Round {number}: annotating in Label Studio") as phase:
            version = self._champion(project)
            phase.note(f"answers of {version}")
            done = annotate_round(self._label_studio, project, version, self._annotator, self._judgements, phase.at)
            phase.note(f"{done.judgements} judgements ({done.ties} ties) and {done.skips} skips on {version}")
        with self._phase(f"train_{number}", f"Round {number}: training, started by the webhook") as phase:
            cycle = self._wait_for_cycle(project, phase)
            came_of_it = self._champion(project) if cycle.state == "promoted" else cycle.reason
            phase.note(f"{cycle.state}: {came_of_it}")
        with self._phase(f"refresh_{number}", f"Round {number}: proposals of the better version") as phase:
            phase.note(f"from {self._shown(project)}")
            self._wait_for_proposals(project, phase)

    def hold_contests(self, project: Project) -> list[ContestFigures]:
        """Let the annotator decide on the challenger that was trained, then on one that is worse on purpose. Training
        pauses meanwhile.

        Raises:
            RankloopError: the cycle left no challenger, or the verdicts didn't decide.
        """
        line = own_line(project.id)
        self._registry.pause(line)
        figures = [self._hold(project, "contest_1", "Contest: the trained challenger against the champion")]
        champion = self._registry.current(line)
        worse = register_worse(self._registry, champion, project.id)
        self._registry.challenge(worse.name, champion.name)
        self._jobs.champion_changed()
        figures.append(self._hold(project, "contest_2", "Contest: a spoiled copy of the champion against it"))
        self._registry.resume(line)
        return figures

    def _hold(self, project: Project, name: str, description: str) -> ContestFigures:
        with self._phase(name, description) as phase:
            wait = partial(self._wait_for_proposals, project, phase)
            around = self._stack, self._label_studio, self._registry
            return hold_contest(*around, project, self._annotator, phase, wait)

    def evaluate(self, held_out: Sequence[str], project: Project) -> DemoReport:
        """Evaluate every version with fresh answers to prompts that were never imported."""
        with self._phase("evaluate", "Comparing versions on held-out prompts") as phase:
            versions = [v for v in self._registry.versions(own_line(project.id)) if v.tags.get("kind") != "worse"]
            base = self._answers(versions[0], held_out, draw=0)
            again = self._answers(versions[0], held_out, draw=1)
            rows = [base_figures(versions[0], base, compare(held_out, again, base, self._taste))]
            last = base
            for number, version in enumerate(versions[1:], start=2):
                phase.at(number - 1, len(versions))
                last = self._answers(version, held_out, draw=number)
                rows.append(trained_figures(version, last, compare(held_out, last, base, self._taste)))
            counts = self._label_studio.predictions_by_version(project.id)
        record = read_record(self._registry.fetch(versions[0]), self._stack.settings.cycle_config)
        return DemoReport(
            rows,
            counts,
            self._screen.seconds,
            model=self._stack.settings.model,
            chat_template=record.chat_template_sha256 is not None,
            examples=telling_pairs(held_out, base, last, self._taste)[:EXAMPLES],
        )

    @contextmanager
    def _phase(self, name: str, description: str) -> Iterator[Phase]:
        told = f"{self._title}: {description}" if self._suffix else description
        with self._screen.phase(f"{name}{self._suffix}", told) as phase:
            yield phase

    def _champion(self, project: Project) -> str:
        return self._registry.current(own_line(project.id)).name

    def _shown(self, project: Project) -> str:
        """The name that the line's predictions carry now."""
        line = own_line(project.id)
        champion, challenger = self._registry.current(line), self._registry.challenger(line)
        return shown_name(champion.name, challenger.name if challenger else None)

    def _answers(self, version: Version, prompts: Sequence[str], *, draw: int) -> FreshAnswers:
        return fresh_answers(version.name, self._registry.fetch(version), self._stack.settings, prompts, draw=draw)

    def _wait_for_proposals(self, project: Project, phase: Phase) -> None:
        """Wait until every open task shows the champion's answers."""
        version = self._shown(project)

        def done() -> bool:
            total = len(self._label_studio.open_tasks(project.id))
            left = len(self._label_studio.tasks_to_propose(project.id, version))
            phase.at(total - left, total)
            return left == 0

        what = f"every open task has answers of {version}"
        self._stack.wait_until(done, what, timeout_s=PROPOSALS_TIMEOUT_S, every_s=PROPOSALS_POLL_S)

    def _wait_for_cycle(self, project: Project, phase: Phase) -> CycleJob:
        """Wait until a new cycle has ended."""
        ended: list[CycleJob] = []
        phase.note("the webhook's job waits for a quiet moment")

        def done() -> bool:
            for cycle in self._jobs.cycles():
                if cycle.project_id == project.id and cycle.job not in self._seen:
                    self._show(cycle, phase)
                    if cycle.ended:
                        ended.append(cycle)
            return bool(ended)

        self._stack.wait_until(done, "the training cycle has ended", timeout_s=CYCLE_TIMEOUT_S)
        self._seen |= {cycle.job for cycle in ended}
        if ended[0].state in {"failed", "cancelled"}:
            raise CycleFailedError(f"{ended[0].job} {ended[0].state}", remedy=self._where(ended[0]))
        return ended[0]

    def _show(self, cycle: CycleJob, phase: Phase) -> None:
        phase.note(STEPS.get(cycle.step or "", cycle.step or cycle.state))
        if cycle.done is not None and cycle.total:
            phase.at(cycle.done, cycle.total)

    def _where(self, cycle: CycleJob) -> str:
        folder = self._stack.settings.home() / "cycles" / cycle.job
        named = ", ".join(str(path) for path in [*sorted(folder.glob("*.log")), self._stack.logs / "worker.log"])
        return f"{cycle.reason.rstrip('.')}. See {named}"


def telling_pairs(
    prompts: Sequence[str], before: FreshAnswers, after: FreshAnswers, taste: Taste
) -> list[BeforeAndAfter]:
    """One pair of answers to each question: first those of which the annotator prefers the new one.

    A blank answer, or one that was cut off, isn't shown if there are others.
    """
    whole: list[BeforeAndAfter] = []
    others: list[BeforeAndAfter] = []
    for index in range(0, len(before.texts), ANSWERS_PER_PROMPT):
        old, new = before.texts[index], after.texts[index]
        pair = BeforeAndAfter(prompts[index // ANSWERS_PER_PROMPT], old, new)
        cut = any(answers.cut[index : index + 1] == (True,) for answers in (before, after))
        (others if cut or not old or not new else whole).append(pair)
    whole.sort(key=lambda pair: taste(pair.prompt, pair.before, pair.after) != "2")
    return [*whole, *others]
