"""The pipeline: the order of a training cycle's steps. The worker runs them durably, the command line one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

from training.config import GateConfig
from training.evaluation import Gate, policy_gate, reward_gate
from training.ppo import PPOReport
from training.reward import RewardReport
from training.runs import read_report

Work = TypeVar("Work", contravariant=True)
Do = Callable[..., Any]
"""Runs a step, given its name, a method and the method's arguments, and returns the method's result."""


class Outcome(TypedDict):
    """How a cycle ended, and why: `promoted`, `challenger` (people compare its version with the champion now),
    `registered` (its version answers nobody, as the champion had changed meanwhile), `rejected` (stopped by a gate), or
    another status of the implementation's, such as `failed`.
    """

    status: str
    reason: str


class CycleSteps(Protocol[Work]):
    """The steps of a cycle. Each leaves its result on disk, may be repeated, and returns plain JSON."""

    def snapshot(self, work: Work) -> Any:
        """Copy the data that the cycle trains on."""

    def prepare(self, work: Work) -> dict[str, Any]:
        """Derive preferences and demonstrations; returns how many `demonstrations`, and any `fault` that ends it."""

    def sft(self, work: Work, demonstrations: int) -> bool:
        """Train on the answers people wrote if there are enough of them; returns whether there were."""

    def reward(self, work: Work) -> None:
        """Train the reward model."""

    def reward_gate(self, work: Work) -> Gate:
        """Whether the reward model is good enough to learn from."""

    def ppo(self, work: Work, after_sft: bool) -> None:  # passed by position
        """Fine-tune the policy."""

    def policy_gate(self, work: Work) -> Gate:
        """Whether the policy is good enough to answer people."""

    def register(self, work: Work) -> str:
        """Register the policy as a version; returns its name."""

    def promote(self, work: Work, version: str) -> Outcome:
        """Make a version the one that answers, or let people compare it with that one; returns what came of it."""

    def finish(self, work: Work, status: str, reason: str) -> Outcome:
        """Record how the cycle ended."""


def run_cycle(steps: CycleSteps[Work], work: Work, do: Do) -> Outcome:
    """Run a whole cycle.

    Args:
        steps: the implementation of each step.
        work: what the cycle works on, passed to each step.
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
    made: Outcome = do("promote", steps.promote, work, version)
    why = made["reason"] if made["status"] == "registered" else f"{made['reason']} {gate['reason']}"
    return _finish(steps, work, do, made["status"], why)


def _finish(steps: CycleSteps[Work], work: Work, do: Do, status: str, reason: str) -> Outcome:
    outcome: Outcome = do("finish", steps.finish, work, status, reason)
    return outcome


def decide_on_reward_model(folder: Path, gates: GateConfig) -> Gate:
    """Apply the reward model's gate to a cycle's folder."""
    report = RewardReport.from_json(read_report(folder / "reward"))
    return reward_gate(sum(report.winners.values()), report.held_out(), gates, folds=report.folds)


def decide_on_policy(folder: Path, gates: GateConfig) -> Gate:
    """Apply the policy's gate to a cycle's folder."""
    report = PPOReport.from_json(read_report(folder / "ppo"))
    return policy_gate(report, gates, stopped=report.stopped, learned=report.iterations > 0)


def version_metrics(reports: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics by which versions are compared; unmeasured ones are left out."""
    reward, ppo = RewardReport.from_json(dict(reports["reward"])), reports["ppo"]
    accuracy = reward.held_out()
    figures = {
        "annotations": summary["annotations"],
        "judgements": summary["kept"],
        "preferences": summary["preferences"],
        "reward_accuracy": accuracy.accuracy,
        "reward_accuracy_low": accuracy.interval[0],
        "reward_accuracy_high": accuracy.interval[1],
        "reward_accuracy_test": reward.accuracy.get("test"),
        "agreement": reward.agreement,
        "kl_nats": ppo["kl_nats"],
        "win_rate_vs_base": ppo["win_rate_vs_base"],
        "win_rate_low": ppo["win_rate_interval"][0],
        "win_rate_high": ppo["win_rate_interval"][1],
        "win_rate_vs_champion": ppo["win_rate_vs_champion"],
        "similarity": ppo["similarity"],
        "answer_tokens": ppo["answer_tokens"],
        "base_answer_tokens": ppo["base_answer_tokens"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}
