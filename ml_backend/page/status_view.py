"""What the loop does now, what it waits for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.page.figures import count
from ml_backend.registry import LineState

STEPS = {
    "snapshot": "fetching judgements from Label Studio",
    "preferences": "turning judgements into preferences",
    "sft": "learning from rewritten answers",
    "reward": "training the reward model",
    "reward gate": "checking the reward model",
    "ppo": "training the policy",
    "policy gate": "checking the policy",
    "register": "storing the new version",
    "promote": "making it champion",
    "finish": "finishing",
}
WAITED_S = 180.0
"""How long a cycle may be queued while nothing runs before that looks like a missing worker."""


@dataclass(frozen=True, slots=True)
class CycleNow:
    """A cycle that is queued or running; `done` and `total` are None unless its step counts."""

    job: str
    line: str | None
    project_id: int
    state: str
    doing: str
    done: int | None
    total: int | None
    created_at: float


@dataclass(frozen=True, slots=True)
class LastCycle:
    """How a line's latest cycle ended, and why; `began_at` is in seconds since 1970."""

    state: str
    reason: str
    began_at: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a line waits for: judgements, `new` of the `needed`, and `why` in words; and how its `last` cycle ended."""

    line: str
    new: int
    needed: int
    why: str
    until: float | None
    projects: tuple[int, ...]
    paused_since: str | None
    cycles: tuple[CycleNow, ...]
    last: LastCycle | None = None

    @property
    def sentence(self) -> str:
        """What happens on the line, in a sentence."""
        running = next((cycle for cycle in self.cycles if cycle.state == "running"), None)
        if running:
            return f"A training cycle runs: {running.doing}."
        if self.cycles:
            return "A training cycle is queued."
        if self.paused_since:
            return "Paused: judgements count, but no cycle starts by itself."
        if not self.needed:
            return self.why or "Nobody has judged anything yet."
        if self.new < self.needed:
            missing = count(self.needed - self.new, "more judgement")
            return f"{missing} until training: {self.new:,} of {self.needed:,} are there."
        return self.why or f"{count(self.new, 'new judgement')}: training starts soon."


def cycles_now(jobs: Mapping[str, Any] | None) -> tuple[CycleNow, ...]:
    """The cycles that are running, then those that are queued."""
    found = [*(jobs or {}).get("running", ()), *(jobs or {}).get("queued", ())]
    return tuple(_cycle(cycle) for cycle in found if cycle.get("job"))


def waiting_on(
    state: LineState, jobs: Mapping[str, Any] | None, connected: Sequence[int], cycles: Sequence[CycleNow]
) -> Waiting:
    """What a line waits for.

    Args:
        state: the line.
        jobs: see `Jobs.status`; None if it isn't known.
        connected: the line's projects, as far as Label Studio says so.
        cycles: all cycles that are queued or running.
    """
    looks = (jobs or {}).get("waiting", ())
    look: Mapping[str, Any] = next((look for look in looks if look.get("line") == state.name), {})
    projects = {*connected, *(number for number, _ in look.get("projects", ()))}
    ours = [cycle for cycle in cycles if cycle.line == state.name or (not cycle.line and cycle.project_id in projects)]
    return Waiting(
        line=state.name,
        new=int(look.get("new") or 0),
        needed=int(look.get("needed") or 0),
        why=str(look.get("why") or ""),
        until=look.get("until"),
        projects=tuple(sorted(projects)),
        paused_since=state.paused_since,
        cycles=tuple(ours),
        last=_last(state.name, jobs),
    )


def _last(line: str, jobs: Mapping[str, Any] | None) -> LastCycle | None:
    ended = (cycle for cycle in (jobs or {}).get("ended", ()) if cycle.get("line") == line)
    cycle = next(ended, None)
    return None if cycle is None else LastCycle(cycle["state"], cycle["reason"], cycle["created_at"])


def missing_worker(cycles: Sequence[CycleNow], now: float) -> str | None:
    """What to do if nothing seems to take cycles out of the queue; None if something does, or nothing is queued."""
    if not cycles or any(cycle.state == "running" for cycle in cycles):
        return None
    if now - min(cycle.created_at for cycle in cycles) < WAITED_S:
        return None
    return "A training cycle has been queued for minutes and none runs. Check that a worker runs: `rankloop worker`."


def proposals(jobs: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The background proposals that run or wait, each as a sentence."""
    found = []
    for job in (jobs or {}).get("proposing", ()):
        if job["state"] == "queued":
            found.append(f"Proposals for project {job['project_id']} are queued.")
        else:
            left = "tasks are being counted" if job["left"] is None else f"{count(job['left'], 'task')} left"
            found.append(f"Proposing for project {job['project_id']}: {count(job['stored'], 'pair')} stored, {left}.")
    return tuple(found)


def _cycle(cycle: Mapping[str, Any]) -> CycleNow:
    step = cycle.get("step")
    return CycleNow(
        job=cycle["job"],
        line=cycle.get("line"),
        project_id=cycle["project_id"],
        state=cycle["state"],
        doing="queued" if cycle["state"] == "queued" else STEPS.get(step or "", step or "starting"),
        done=cycle.get("done"),
        total=cycle.get("total"),
        created_at=cycle.get("created_at", 0.0),
    )
