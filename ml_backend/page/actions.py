"""What people can do from the pages: the same as from the command line, each asked before it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ml_backend.errors import JobsError, RegistryError, SupersededError
from ml_backend.loop import Jobs, cancel_cycle
from ml_backend.page.facts import Facts
from ml_backend.registry import Registry

LATER = "The job queue couldn't be told, so open tasks get the new champion's answers at the next reconciliation."


@dataclass(frozen=True, slots=True)
class Question:
    """An action to confirm.

    action: what is done, and to what; part of the form's seal.
    expected: the state that it starts from; if that is over when the form is sent, nothing is done.
    back: the page to go back to.
    """

    title: str
    said: tuple[str, ...]
    button: str
    action: str
    back: str
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action: whether it was done now, and what there is to say."""

    done: bool
    sentence: str
    back: str


class Actions:
    """Asks and does.

    Args:
        registry: promotes, rolls back, pauses.
        jobs: starts and cancels training.
        facts: forgets what it knew after a change.
    """

    def __init__(self, registry: Registry, jobs: Jobs, facts: Facts) -> None:
        self._registry = registry
        self._jobs = jobs
        self._facts = facts
        self._questions: Mapping[str, Callable[[str], Question]] = {
            "promote": self._ask_promote,
            "rollback": self._ask_rollback,
            "train": self._ask_train,
            "pause": self._ask_pause,
            "resume": self._ask_resume,
            "cancel": self._ask_cancel,
        }
        self._deeds: Mapping[str, Callable[[str, str], Outcome]] = {
            "promote": self._promote,
            "rollback": self._rollback,
            "train": self._train,
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel,
        }

    def ask(self, kind: str, target: str) -> Question:
        """The question before an action.

        Args:
            kind: `promote` a version; `rollback`, `train`, `pause` or `resume` a line; `cancel` a cycle.
            target: the name of that.

        Raises:
            RegistryError: there is no such version or line.
            JobsError: the job queue can't be reached.
        """
        return replace(self._questions[kind](target), action=f"{kind} {target}")

    def do(self, kind: str, target: str, expected: str) -> Outcome:
        """Do it. Doing it twice does it once: the second time says how things are."""
        try:
            return self._deeds[kind](target, expected)
        finally:
            self._facts.forget()

    def _ask_promote(self, name: str) -> Question:
        version = self._registry.get(name)
        champion = self._registry.champion(version.line)
        instead = f"instead of {champion.name}" if champion else "as the line's first champion"
        said: tuple[str, ...] = (
            f"{name} will answer on line {version.line}, {instead}.",
            "The server loads it within seconds, and open tasks get its answers. You can roll back at any time.",
        )
        before = champion.name if champion else ""
        said += self._ends_contest(version.line, name)
        return Question(f"Promote {name}?", said, "Promote", "", f"/versions/{name}", before)

    def _promote(self, name: str, expected: str) -> Outcome:
        version, back = self._registry.get(name), f"/versions/{name}"
        champion = self._registry.champion(version.line)
        if champion and champion.name == name:
            return Outcome(False, f"{name} is already the champion of line {version.line}.", back)
        try:
            self._registry.promote(name, instead_of=expected or None)
        except SupersededError as error:
            return _overtaken(error, back)
        return self._changed(f"{name} is now the champion of line {version.line}.", back)

    def _ask_rollback(self, line: str) -> Question:
        self._registry.must_exist(line)
        champions, back = self._registry.champions(line), f"/lines/{line}"
        if len(champions) < 2:
            raise RegistryError(
                f"line {line} has no previous champion to go back to",
                got=champions[-1] if champions else "no champion",
                remedy="Promote another version instead.",
            )
        now, before = champions[-1], champions[-2]
        said: tuple[str, ...] = (
            f"{before} will answer on line {line} again, instead of {now}.",
            "A cycle that is running meanwhile doesn't undo that. The version that goes is kept.",
        )
        said += self._ends_contest(line, before)
        return Question(f"Go back to {before}?", said, "Roll back", "", back, f"{now} {before}")

    def _rollback(self, line: str, expected: str) -> Outcome:
        back = f"/lines/{line}"
        now, _, before = expected.partition(" ")
        champion = self._registry.champion(line)
        if champion and champion.name == before:
            return Outcome(False, f"{before} is already the champion of line {line} again.", back)
        try:
            version = self._registry.rollback(line, instead_of=now)
        except SupersededError as error:
            return _overtaken(error, back)
        return self._changed(f"{version.name} is the champion of line {line} again.", back)

    def _ask_train(self, line: str) -> Question:
        self._registry.must_exist(line)
        self._project_of(line)
        paused = self._registry.paused_since(line)
        said: tuple[str, ...] = (
            f"A training cycle starts on all judgements of line {line}, whatever earlier cycles came to. "
            "People can go on labeling; a version that passes its gates is registered.",
        )
        if paused:
            said += ("The line is paused. It trains this once and stays paused.",)
        title = f"Train line {line} now?"
        return Question(title, said, "Start training", "", f"/lines/{line}", "paused" if paused else "")

    def _train(self, line: str, expected: str) -> Outcome:
        found = self._jobs.start_training(self._project_of(line), line, force=expected == "paused")
        return Outcome(found["status"] == "queued", found["message"], f"/lines/{line}")

    def _ask_pause(self, line: str) -> Question:
        self._registry.must_exist(line)
        said = (
            f"Line {line} starts no training cycle by itself until it is resumed. People keep labeling, the champion "
            "keeps answering, and judgements keep counting.",
            "A running cycle goes on.",
        )
        return Question(f"Pause line {line}?", said, "Pause", "", f"/lines/{line}")

    def _pause(self, line: str, _expected: str) -> Outcome:
        before = self._registry.paused_since(line)
        if before:
            return Outcome(False, f"Line {line} is already paused, since {before}.", f"/lines/{line}")
        self._registry.pause(line)
        return Outcome(True, f"Line {line} is paused.", f"/lines/{line}")

    def _ask_resume(self, line: str) -> Question:
        self._registry.must_exist(line)
        said = (f"Line {line} trains by itself again: at once, if enough judgements are waiting.",)
        return Question(f"Resume line {line}?", said, "Resume", "", f"/lines/{line}")

    def _resume(self, line: str, _expected: str) -> Outcome:
        back = f"/lines/{line}"
        if not self._registry.resume(line):
            return Outcome(False, f"Line {line} isn't paused.", back)
        return self._changed(f"Line {line} trains by itself again.", back)

    def _ask_cancel(self, job: str) -> Question:
        line = self._line_of(job)
        said = (
            "Its training process ends within seconds, and what it has learned so far is lost.",
            "The judgements it was started for count as used: the next automatic cycle waits for new ones.",
        )
        return Question(f"Cancel {job}?", said, "Cancel the cycle", "", f"/lines/{line}" if line else "/")

    def _cancel(self, job: str, _expected: str) -> Outcome:
        line = self._line_of(job)
        back = f"/lines/{line}" if line else "/"
        try:
            cycle = cancel_cycle(self._jobs, self._registry, job)
        except JobsError as error:
            if error.got is None:  # the queue can't be reached
                raise
            return Outcome(False, f"Nothing was cancelled: {error}", back)
        return Outcome(True, f"{job}, which was {cycle.state}, is cancelled.", back)

    def _ends_contest(self, line: str, name: str) -> tuple[str, ...]:
        """What happens to a contest when this version becomes champion."""
        challenger = self._registry.challenger(line)
        if challenger is None or challenger.name == name:
            return ()
        return (f"People no longer compare {challenger.name} with the champion; its contest ends undecided.",)

    def _changed(self, sentence: str, back: str) -> Outcome:
        try:
            self._jobs.champion_changed()
        except JobsError:
            sentence = f"{sentence} {LATER}"
        return Outcome(True, sentence, back)

    def _project_of(self, line: str) -> int:
        """A connected project of the line, for which its cycles are started."""
        projects = [each.project_id for each in self._facts.projects().value or () if each.line == line]
        looks = (self._facts.jobs().value or {}).get("waiting", ())
        projects += [number for look in looks if look.get("line") == line for number, _ in look.get("projects", ())]
        if not projects:
            raise RegistryError(
                "no project is known to be on this line",
                got=line,
                remedy="Connect one with `rankloop init-project --line NAME`, or check that Label Studio answers.",
            )
        return min(projects)

    def _line_of(self, job: str) -> str | None:
        state: Mapping[str, Any] = self._facts.jobs().value or {}
        cycles = [cycle for name in ("running", "queued", "ended") for cycle in state.get(name, ())]
        return next((cycle.get("line") for cycle in cycles if cycle.get("job") == job), None)


def _overtaken(error: SupersededError, back: str) -> Outcome:
    return Outcome(False, f"Nothing was done: {error} Look at the line again before you decide.", back)
