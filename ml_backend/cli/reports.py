"""Prints versions and jobs, and waits for a training cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_backend.observe import messages, output, show_table, stage_bar

if TYPE_CHECKING:
    from ml_backend.loop import CycleJob, Jobs
    from ml_backend.registry import LineState, Version
    from ml_backend.settings import Settings

CYCLES_SHOWN = 10
_VERSION_COLUMNS = (
    "line",
    "version",
    "champion",
    "annotations",
    "accuracy",
    "people agree",
    "KL (nats)",
    "win rate",
    "parent",
    "created",
)


def show_versions(settings: Settings, line: str | None = None) -> None:
    """Print a table of all versions of a line or of all lines, each line's oldest first."""
    from ml_backend.registry import Registry

    registry = Registry(settings)
    if line is not None:
        registry.must_exist(line)
    rows = [
        row
        for name in ([line] if line else registry.lines())
        for row in version_rows(registry.versions(name), registry.champion(name), registry.challenger(name))
    ]
    if rows:
        show_table(_VERSION_COLUMNS, rows)
    else:
        output().print("There are no versions yet; the first `rankloop up` registers the base model.", markup=False)


def version_rows(
    versions: Iterable[Version], champion: Version | None, challenger: Version | None = None
) -> Iterator[tuple[str, ...]]:
    """One table row per version; missing figures (the base has none) are dashes, a challenger is marked by a `?`."""
    marks = {version.number: mark for version, mark in ((challenger, "?"), (champion, "*")) if version is not None}
    for version in versions:
        figures = version.metrics
        yield (
            version.line,
            version.name,
            marks.get(version.number, ""),
            _number(figures.get("annotations"), ".0f"),
            _number(figures.get("reward_accuracy", figures.get("reward_accuracy_selection")), ".1%"),
            _number(figures.get("agreement"), ".1%"),
            _number(figures.get("kl_nats"), ".2f"),
            _number(figures.get("win_rate_vs_base"), ".1%"),
            version.parent or "-",
            _moment(version.created_at),
        )


def show_status(settings: Settings) -> None:
    """Print the lines and what each waits for, the queued and running jobs, and how the latest cycles ended."""
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    jobs, registry = Jobs(settings), Registry(settings)
    state = jobs.status()
    states = registry.line_states()
    people = {line.name: registry.opinions(line.name).get("people", {}) for line in states}
    columns = ("line", "champion", "accuracy", "people agree", "projects", "waits for")
    show_table(columns, list(line_rows(states, state["waiting"], people)))
    proposing = [proposal_line(job) for job in state["proposing"]]
    facts = [("proposing answers", "\n".join(proposing) or "none at the moment")]
    facts += [("ignored", look["why"]) for look in state["waiting"] if look["line"] is None]
    show_table(("", ""), facts)
    cycles = [cycle_row(cycle) for cycle in jobs.cycles(CYCLES_SHOWN)]
    if cycles:
        show_table(("training cycle", "line", "project", "began", "state", "why"), cycles)


def line_rows(
    lines: Iterable[LineState], waiting: Sequence[Mapping[str, Any]], people: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, ...]]:
    """One table row per line: its champion, how often the reward model is right beside how often two people agree,
    its projects with their new judgements, and what it waits for.
    """
    looks = {look["line"]: look for look in waiting if look["line"] is not None}
    for line in lines:
        look = looks.get(line.name)
        projects = [f"{number} ({count} new judgements)" for number, count in look["projects"]] if look else []
        why = look["why"] if look else "nobody has judged anything yet"
        if line.paused_since:
            why = f"`rankloop resume {line.name}`; it is paused since {line.paused_since}"
        champion = line.champion.name if line.champion else "none yet: the first `rankloop up` registers the base model"
        if line.challenger:
            champion += f"\nchallenged by {line.challenger.name}; see `rankloop contest`"
        figures = line.champion.metrics if line.champion else {}
        agree = people.get(line.name, {}).get("pairwise", figures.get("agreement"))
        accuracy = _number(figures.get("reward_accuracy"), ".0%")
        yield (line.name, champion, accuracy, _number(agree, ".0%"), "\n".join(projects) or "-", why)


def proposal_line(job: Mapping[str, Any]) -> str:
    """The progress of one project's background proposals."""
    if job["state"] == "queued":
        return f"for project {job['project_id']}: queued"
    left = "counting tasks" if job["left"] is None else f"{job['left']} tasks left"
    return f"for project {job['project_id']}: {job['stored']} stored, {left}"


def cycle_row(cycle: CycleJob) -> tuple[str, ...]:
    """A training cycle as a table row, with its progress while it runs."""
    return (cycle.job, cycle.line or "-", str(cycle.project_id), _moment(cycle.created_at), _state(cycle), cycle.reason)


def wait_for_cycle(jobs: Jobs, job: str) -> int:
    """Wait until a training cycle has ended, with a progress bar that follows its steps.

    Returns:
        0 if its version was promoted or challenges the champion, else 1.
    """
    console = messages()
    with stage_bar() as show:
        ended = jobs.wait(job, lambda cycle: show(_state(cycle), cycle.done, cycle.total))
    console.print(f"{ended.job}: {ended.state}. {ended.reason}".rstrip(), markup=False)
    return 0 if ended.state in {"promoted", "challenger"} else 1


def _state(cycle: CycleJob) -> str:
    if cycle.state != "running" or cycle.step is None:
        return cycle.state
    return cycle.step if cycle.total is None else f"{cycle.step} {cycle.done}/{cycle.total}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
