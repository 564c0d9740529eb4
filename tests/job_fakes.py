"""Fakes of the worker's parts, for testing its workflows without training anything."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

from ml_backend.errors import LabelStudioError
from ml_backend.loop.cycle import Plan


@dataclass
class FakeSteps:
    """Records which steps were done; `on` makes a step do something other than succeed."""

    given: list[dict[str, Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    on: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def _do(self, name: str, usual: Any = None) -> Any:
        self.done.append(name)
        return self.on[name]() if name in self.on else usual

    def attempt(self, _project_id: int, _workflow_id: str, _trigger: str, given: dict[str, Any]) -> str:
        """A run without a registry."""
        self.given.append(given)
        self._do("attempt")
        return "run-1"

    def begin(self, project_id: int, workflow_id: str, run_id: str, _trigger: str) -> dict[str, Any]:
        """A plan without a registry."""
        plan = Plan(project_id, workflow_id, run_id, "rankloop-v1", "rankloop-v1", "default", [project_id])
        return self._do("begin", asdict(plan))

    def snapshot(self, _plan: Plan) -> dict[str, Any]:
        """Thirty annotated tasks."""
        return self._do("snapshot", {"tasks": 30, "snapshot_at": "2026-01-01T00:00:00+00:00"})

    def prepare(self, _plan: Plan) -> dict[str, Any]:
        """Enough of everything."""
        return self._do("prepare", {"preferences": 30, "demonstrations": 0, "fault": None})

    def sft(self, _plan: Plan, _demonstrations: int) -> bool:
        """Nothing was rewritten."""
        return self._do("sft", False)

    def reward(self, _plan: Plan) -> None:
        """Trained at once."""
        self._do("reward")

    def reward_gate(self, _plan: Plan) -> dict[str, Any]:
        """Good enough."""
        return self._do("reward gate", {"passed": True, "reason": "It ranks most pairs correctly."})

    def ppo(self, _plan: Plan, after_sft: bool) -> None:
        """Trained at once."""
        self._do("ppo after sft" if after_sft else "ppo")

    def policy_gate(self, _plan: Plan) -> dict[str, Any]:
        """Better."""
        return self._do("policy gate", {"passed": True, "reason": "It wins."})

    def register(self, _plan: Plan) -> str:
        """Always the second version."""
        return self._do("register", "rankloop-v2")

    def promote(self, _plan: Plan, name: str) -> dict[str, str]:
        """Done, with nothing that holds it back."""
        return self._do("promote", {"status": "promoted", "reason": f"{name} is champion."})

    def finish(self, _plan: Plan, status: str, reason: str) -> dict[str, Any]:
        """Done."""
        return self.end("run-1", status, reason)

    def end(self, _run_id: str, status: str, reason: str, _cause: str = "") -> dict[str, Any]:
        """Done."""
        self._do("finish")
        return {"status": status, "reason": reason}


@dataclass(slots=True)
class FakeProposals:
    """Records the projects proposed for; the work waits until `gate` is set."""

    asked: list[int] = field(default_factory=list)
    gate: threading.Event | None = None
    begun: threading.Event = field(default_factory=threading.Event)

    def some(self, project_id: int) -> dict[str, Any]:
        """Everything in one go."""
        self.asked.append(project_id)
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        return {"version": "rankloop-v1", "stored": 3, "left": 0}

    def release(self) -> None:
        """Nothing to release."""


LABEL_CONFIG = """<View>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="verdict" toName="answer1,answer2"/>
  <Text name="answer1" value="$answer1"/>
  <Text name="answer2" value="$answer2"/>
</View>"""
"""Answers come with the tasks, so that no later rounds are asked for."""


class FakeProjects:
    """A Label Studio with projects, some connected to us, some with tasks without proposals.

    Args:
        backends: the URL of each project's backend.
        unproposed: projects with tasks without proposals.
        new_judgements: what counting finds, one after the other; the last one repeats.
        extra_params: of the projects that have some.
    """

    def __init__(
        self,
        backends: dict[int, str],
        unproposed: Sequence[int] = (),
        new_judgements: Sequence[int] = (0,),
        extra_params: dict[int, Any] | None = None,
    ) -> None:
        self._backends = backends
        self.unproposed = list(unproposed)
        self.new_judgements = list(new_judgements)
        self.extra_params = extra_params or {}
        self.fault: LabelStudioError | None = None
        self.counted: list[int] = []
        self.exported: list[int] = []
        self.label_config = LABEL_CONFIG
        self.asked: Counter[str] = Counter()

    def projects(self) -> list[Any]:
        """All of them."""
        self.asked["projects"] += 1
        return [self.project(number) for number in self._backends]

    def project(self, project_id: int) -> Any:
        """One of them."""
        shown = {"model_version": "rankloop", "label_config": self.label_config}
        return SimpleNamespace(id=project_id, created_at=None, votes_per_task=1, **shown)

    def all_webhooks(self) -> list[Any]:
        """None: these projects show our predictions."""
        return []

    def backends(self, project_id: int) -> list[Any]:
        """The project's backend."""
        if self.fault:
            raise self.fault
        if project_id not in self._backends:
            raise LabelStudioError(f"there is no project {project_id}", status=404)
        params = self.extra_params.get(project_id, {"line": "default"})
        return [SimpleNamespace(url=self._backends[project_id], extra_params=params)]

    def judgements_since(self, project_id: int, _since: str | None) -> tuple[int, str | None]:
        """The next of `new_judgements`."""
        self.counted.append(project_id)
        count = self.new_judgements.pop(0) if len(self.new_judgements) > 1 else self.new_judgements[0]
        return count, "2026-01-01T00:00:00+00:00" if count else None

    def export_tasks(self, project_id: int) -> list[Any]:
        """No tasks."""
        self.exported.append(project_id)
        if self.fault:
            raise self.fault
        return []

    def runs_low(self, project_id: int, _version: str) -> bool:
        """Whether there is something to do."""
        return project_id in self.unproposed

    def open(self) -> Any:
        """Used like opening a connection."""
        return nullcontext(self)
