"""The pipeline: what follows what in a training cycle. The worker runs its steps durably, the command line in a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

from training.config import GateConfig
from training.evaluation import Gate, policy_gate, reward_gate
from training.ppo import PPOReport
from training.reward import RewardReport
from training.runs import read_report

Work = TypeVar("Work", contravariant=True)
Do = Callable[..., Any]
"""Runs a step, given its name, a method and the method's arguments, and hands on what it returns."""


class Outcome(TypedDict):
    """What became of a cycle: `promoted`, `rejected` (a gate held it back) or `failed`, and why."""

    status: str
    reason: str


class CycleSteps(Protocol[Work]):
    """What a cycle is made of. Each step leaves its outcome on disk, may be repeated, and returns plain JSON."""

    def snapshot(self, work: Work) -> Any:
        """Copy what the cycle learns from."""

    def prepare(self, work: Work) -> dict[str, Any]:
        """Make preferences and demonstrations of it: how many `demonstrations`, and the `fault` that ends the cycle."""

    def sft(self, work: Work, demonstrations: int) -> bool:
        """Imitate answers that people wrote, where there are enough of them; whether there were."""

    def reward(self, work: Work) -> None:
        """Train the reward model."""

    def reward_gate(self, work: Work) -> Gate:
        """Whether the reward model is good enough to learn from."""

    def ppo(self, work: Work, after_sft: bool) -> None:  # handed on by position
        """Fine-tune the policy."""

    def policy_gate(self, work: Work) -> Gate:
        """Whether the policy is good enough to answer people."""

    def register(self, work: Work) -> str:
        """Keep the policy as a version; returns its name."""

    def promote(self, work: Work, version: str) -> Any:
        """Make a version the one that answers."""

    def finish(self, work: Work, status: str, reason: str) -> Outcome:
        """Write down what became of the cycle."""


def run_cycle(steps: CycleSteps[Work], work: Work, do: Do) -> Outcome:
    """A whole cycle.

    Args:
        steps: what is done in each step.
        work: what the cycle works on, handed to each.
        do: runs a step.
    """
    do("snapshot", steps.snapshot, work)
    counts = do("preferences", steps.prepare, work)
    if counts["fault"]:
        return _finish(steps, work, do, "rejected", counts["fault"])
    after_sft = do("sft", steps.sft, work, counts["demonstrations"])
    do("reward", steps.reward, work)
    gate = do("reward gate", steps.reward_gate, work)
    if not gate["passed"]:
        return _finish(steps, work, do, "rejected", gate["reason"])
    do("ppo", steps.ppo, work, after_sft)
    gate = do("policy gate", steps.policy_gate, work)
    if not gate["passed"]:
        return _finish(steps, work, do, "rejected", gate["reason"])
    version = do("register", steps.register, work)
    do("promote", steps.promote, work, version)
    return _finish(steps, work, do, "promoted", f"{version} is champion. {gate['reason']}")


def _finish(steps: CycleSteps[Work], work: Work, do: Do, status: str, reason: str) -> Outcome:
    outcome: Outcome = do("finish", steps.finish, work, status, reason)
    return outcome


def decide_on_reward_model(folder: Path, gates: GateConfig) -> Gate:
    """The gate behind reward training, for a cycle's folder."""
    report = RewardReport.from_json(read_report(folder / "reward"))
    return reward_gate(sum(report.winners.values()), *report.held_out(), gates)


def decide_on_policy(folder: Path, gates: GateConfig) -> Gate:
    """The gate behind reinforcement learning, for a cycle's folder."""
    return policy_gate(PPOReport.from_json(read_report(folder / "ppo")), gates)
