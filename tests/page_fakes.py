"""A line with three versions, what people say of it, and a job queue: what the pages are tested with."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from typing import Any

from ml_backend.errors import JobsError, RegistryError, SupersededError
from ml_backend.loop import CycleJob
from ml_backend.registry import Attempt, LineState, Version
from training.evaluation import Accuracy, BestOfN, Example
from training.ppo import PPOPoint, PPOReport
from training.reward import RewardPoint, RewardReport

HOSTILE = "<script>alert('owned')</script><img src=x onerror=alert(1)> & \"quoted\" 'too'"
BORN = 1_790_000_000.0
"""When the first version was made: 2026-09-21 14:13:20 UTC."""

PEOPLE = {
    "computed_at": "2026-09-22T10:00:00+00:00",
    "judgements": 120,
    "pairs": 80,
    "shared_pairs": 40,
    "alpha": 0.612,
    "alpha_interval": [0.48, 0.74],
    "pairwise": 0.81,
    "pairwise_interval": [0.72, 0.88],
    "people": [
        {
            "annotator": "ann@example.org", "judgements": 60, "agreement": 0.9, "agreement_interval": [0.79, 0.96],
            "agreement_pairs": 40, "with_reward_model": 0.75, "with_reward_model_interval": [0.61, 0.85],
            "with_reward_model_pairs": 48, "left_share": 0.5, "left_interval": [0.37, 0.63], "ties": 0.1,
            "seconds_median": 14.2, "untouched_share": 0.0, "self_agreement": 1.0, "repeated_pairs": 5, "warnings": [],
        },
        {
            "annotator": "left@example.org", "judgements": 60, "agreement": 0.52, "agreement_interval": [0.37, 0.67],
            "agreement_pairs": 40, "with_reward_model": None, "with_reward_model_interval": None,
            "with_reward_model_pairs": 0, "left_share": 1.0, "left_interval": [0.94, 1.0], "ties": 0.0,
            "seconds_median": 1.5, "untouched_share": 0.25, "self_agreement": None, "repeated_pairs": 0,
            "warnings": ["Chose the left answer in 60 of 60 judgements."],
        },
    ],
    "warnings": ["Two people agree on fewer pairs than last week."],
}  # fmt: skip
CONTEST = {
    "champion": "rankloop.eggs-v2", "challenger": "rankloop.eggs-v3", "pairs": 30, "wins": 18, "losses": 9, "ties": 3,
    "votes": 42, "share": 0.65, "interval": [0.44, 0.83], "decision": "more", "needed": 40,
    "sentence": "Not enough votes to tell: about 40 more pairs are needed.",
}  # fmt: skip
LEADERBOARD = {
    "versions": [
        {"version": "rankloop.eggs-v3", "strength": 1.0986, "interval": [0.4055, 1.7918], "length_adjusted": 0.8,
         "length_adjusted_interval": [0.1, 1.5], "pairs": 30, "votes": 42},
        {"version": "rankloop.eggs-v2", "strength": 0.4055, "interval": [-0.4055, 1.2164], "length_adjusted": None,
         "length_adjusted_interval": None, "pairs": 60, "votes": 80},
        {"version": "rankloop.eggs-v1", "strength": 0.0, "interval": [0.0, 0.0], "length_adjusted": 0.0,
         "length_adjusted_interval": None, "pairs": 40, "votes": 50},
    ],
    "votes_to_turn": 7,
    "sentence": "rankloop.eggs-v3 is first, but its lead over rankloop.eggs-v2 may be chance.",
}  # fmt: skip


def point(iteration: int, reward: float, kl_nats: float) -> PPOPoint:
    """An iteration of PPO."""
    return PPOPoint(
        iteration=iteration, reward=reward, score=reward, eos_penalty=0.0, kl_penalty=0.1, kl_nats=kl_nats,
        kl_k3_nats=kl_nats, kl_coefficient=0.1, entropy_nats=2.0, answer_tokens=20.0 + iteration, ended_share=1.0,
        distinct_1=0.5, distinct_2=0.8, repetition=0.1, explained_variance=0.4, policy_loss=0.1, value_loss=0.2,
        clip_share=0.05, first_ratio_gap=0.0, ratio_min=0.9, ratio_max=1.1, gradient_norm=1.0, similarity=0.2,
    )  # fmt: skip


def report(*examples: Example) -> dict[str, Any]:
    """The reports of a version, as JSON: 72% of 100 pairs, 61% against the base at 1.5 nats."""
    policy = PPOReport(
        reward_mean=0.5, iterations=3, stopped=None,
        curve=(point(1, 0.0, 0.1), point(2, 0.25, 0.8), point(3, 0.5, 1.5)),
        evaluated_prompts=40, kl_nats=1.5, kl_from_base_nats=1.5, win_rate_vs_base=0.61, win_rate_interval=(0.52, 0.7),
        win_rate_vs_champion=0.58, champion_interval=(0.5, 0.66), answer_tokens=23.4, base_answer_tokens=26.0,
        best_of_n=(BestOfN(1, 0.0, 0.0, 0.5), BestOfN(2, 0.193, 0.3, 0.58), BestOfN(4, 0.636, 0.6, 0.66)),
        gain_on_pool=0.4, win_rate_on_pool=0.61, verdict="The policy doesn't earn its KL.", examples=examples,
    )  # fmt: skip
    reward = RewardReport(
        accuracy={"train": 0.9, "selection": 0.7, "test": 0.74}, accuracy_interval=(0.6, 0.85),
        n={"train": 80, "selection": 20, "test": 25}, ties={"train": 0, "selection": 0, "test": 0},
        curve=(RewardPoint(0, 0.6, 0.62, 0.7), RewardPoint(1, 0.5, 0.61, 0.72)), best_epoch=1, temperature=1.0,
        calibration_error=0.05, length_correlation=0.1, out_of_fold=Accuracy(0.72, (0.63, 0.8), 100, 60), folds=5,
        agreement=0.81,
    )  # fmt: skip
    return {"reward": asdict(reward), "ppo": asdict(policy)}


EXAMPLE = Example("How do I boil an egg?", "Boil it.", "Boil it for six minutes.", "Boil it gently.", -0.5, 0.25, 1.5)


def version(number: int, parent: str | None = None, line: str = "eggs", **metrics: float) -> Version:
    """A version; the first one is the base, the others have the figures of `report`."""
    kind = "base" if parent is None else "cycle"
    tags = {"kind": kind, "manifest_sha256": f"m{number}", "workflow_id": f"cycle-7-{number}"}
    figures = {
        "annotations": 120.0, "judgements": 118.0, "preferences": 80.0, "reward_accuracy": 0.72,
        "reward_accuracy_low": 0.63, "reward_accuracy_high": 0.8, "agreement": 0.81, "kl_nats": 1.5,
        "win_rate_vs_base": 0.61, "win_rate_low": 0.52, "win_rate_high": 0.7, "answer_tokens": 23.4,
        "base_answer_tokens": 26.0, **metrics,
    }  # fmt: skip
    name = f"rankloop.{line}-v{number}"
    at = BORN + 3600 * number
    return Version(number, name, line, f"run{number}", parent, {} if parent is None else figures, tags, at)


class PageRegistry:
    """Lines in memory.

    Attributes:
        broken: a fault that every call raises.
        said: what people say, by line.
        challenged: the version that people compare with the champion, by line.
        reports: by version.
        calls: what was changed, in order.
    """

    def __init__(self) -> None:
        base = version(1)
        second = version(2, base.name)
        third = version(3, second.name, kl_nats=2.25)
        self.known: dict[str, list[Version]] = {"eggs": [base, second, third]}
        self.crowned: dict[str, list[str]] = {"eggs": [base.name, second.name]}
        self.paused: dict[str, str] = {}
        gates = {"reward_gate": "The reward model ranks 72% correctly.", "policy_gate": "It beats the champion."}
        reason, tags = f"{second.name} is champion.", {"version": second.name, **gates}
        refused = "Not enough held-out prompts to tell."
        self.tried: dict[str, list[Attempt]] = {
            "eggs": [
                Attempt("cycle-7-4", "rejected", refused, None, {}, BORN + 9e4, BORN + 9.1e4),
                Attempt("cycle-7-2", "promoted", reason, None, tags, BORN + 5000, BORN + 7200),
            ]
        }
        self.said: dict[str, dict[str, Any]] = {"eggs": {}}
        self.challenged: dict[str, Version] = {}
        self.reports = {second.name: report(EXAMPLE), third.name: report(EXAMPLE)}
        self.broken: str | None = None
        self.calls: list[tuple[str, ...]] = []
        self._lock = threading.Lock()

    def _check(self) -> None:
        if self.broken:
            raise RegistryError(self.broken, remedy="Start it again.")

    def lines(self) -> list[str]:
        """All lines."""
        self._check()
        return list(self.known)

    def line_states(self) -> list[LineState]:
        """All lines with their champions."""
        return [LineState(line, self.champion(line), self.paused.get(line)) for line in self.lines()]

    def champion(self, line: str) -> Version | None:
        """The last one that was crowned."""
        self._check()
        return self.get(self.crowned[line][-1]) if self.crowned.get(line) else None

    def challenger(self, line: str) -> Version | None:
        """The one that people compare with the champion."""
        return self.challenged.get(line)

    def challenge(self, line: str, number: int) -> None:
        """Let people compare a version."""
        self.challenged[line] = self.known[line][number - 1]

    def champions(self, line: str) -> list[str]:
        """All that were crowned."""
        self._check()
        return self.crowned.get(line, [])

    def versions(self, line: str) -> list[Version]:
        """All versions of a line."""
        self._check()
        return self.known[line]

    def get(self, name: str) -> Version:
        """A version by name."""
        self._check()
        found = next((each for line in self.known.values() for each in line if each.name == name), None)
        if found is None:
            raise RegistryError("there is no such version", got=name)
        return found

    def must_exist(self, line: str) -> None:
        """Refuse unknown lines."""
        if line not in self.lines():
            raise RegistryError("there is no such line", got=line)

    def attempts(self, line: str) -> list[Attempt]:
        """The line's cycles."""
        return self.tried.get(line, [])

    def opinions(self, line: str) -> dict[str, Any]:
        """What people say."""
        return self.said.get(line, {})

    def report(self, version: Version) -> dict[str, Any]:
        """A version's reports."""
        self._check()
        return self.reports.get(version.name, {})

    def run_path(self, version: Version) -> str:
        """A page of MLflow."""
        return f"#/experiments/1/runs/{version.run_id}"

    def taken_over_at(self) -> float:
        """Never."""
        return 0.0

    def paused_since(self, line: str) -> str | None:
        """Since when it is paused."""
        return self.paused.get(line)

    def pause(self, line: str) -> str:
        """Pause a line."""
        self.calls.append(("pause", line))
        return self.paused.setdefault(line, "2026-09-22T10:00:00+00:00")

    def resume(self, line: str) -> bool:
        """Go on."""
        if line not in self.paused:
            return False
        self.calls.append(("resume", line))
        del self.paused[line]
        return True

    def promote(self, name: str, *, instead_of: str | None = None) -> Version:
        """Crown a version."""
        found = self.get(name)
        with self._lock:
            self._refuse(found.line, instead_of)
            self.crowned.setdefault(found.line, []).append(name)
        self.calls.append(("promote", name))
        return found

    def rollback(self, line: str, *, instead_of: str | None = None) -> Version:
        """Take the last crown away."""
        with self._lock:
            self._refuse(line, instead_of)
            gone = self.crowned[line].pop()
        self.calls.append(("rollback", gone))
        return self.get(self.crowned[line][-1])

    def start_cycle_run(self, project_id: int, workflow_id: str, _tags: Any = None) -> str:
        """The run of a cycle."""
        return f"run of {workflow_id} of {project_id}"

    def finish_run(self, run_id: str, status: str, _reason: str = "") -> None:
        """Note how it ended."""
        self.calls.append((status, run_id))

    def _refuse(self, line: str, instead_of: str | None) -> None:
        now = self.crowned.get(line, [])[-1:]
        if instead_of is not None and now != [instead_of]:
            raise SupersededError(f"the champion is {now} now, no longer {instead_of}")


RUNNING = CycleJob("cycle-7-5", 7, "running", "ppo", 3, 12, "", BORN + 1e5, "eggs")


class PageJobs:
    """A job queue in memory.

    Attributes:
        cycle: the cycle that runs, if any.
        away: a fault that every call raises.
        started, cancelled, told: what was asked for.
    """

    def __init__(self) -> None:
        self.cycle: CycleJob | None = None
        self.away: str | None = None
        self.started: list[tuple[int, str | None, bool]] = []
        self.cancelled: list[str] = []
        self.told = 0
        self.new = 41
        self._lock = threading.Lock()

    def _check(self) -> None:
        if self.away:
            raise JobsError(self.away, remedy="Check RANKLOOP_DATABASE_URL.")

    def status(self) -> dict[str, Any]:
        """What runs, and that 41 of 50 judgements are there."""
        self._check()
        look = {"line": "eggs", "projects": [[7, self.new]], "new": self.new, "needed": 50, "why": "", "until": None}
        running = [asdict(self.cycle)] if self.cycle and self.cycle.state == "running" else []
        queued = [asdict(self.cycle)] if self.cycle and self.cycle.state == "queued" else []
        ended = [asdict(self.cycle)] if self.cycle and self.cycle.ended else []
        return {"running": running, "queued": queued, "ended": ended, "proposing": [], "waiting": [look]}

    def start_training(self, project_id: int, line: str | None = None, *, force: bool = False) -> dict[str, Any]:
        """Queue a cycle, unless one is there."""
        self._check()
        with self._lock:
            if self.cycle and not self.cycle.ended:
                message = f"Training cycle {self.cycle.job} of line {line} is already {self.cycle.state}."
                return {"job": self.cycle.job, "status": self.cycle.state, "message": message}
            self.started.append((project_id, line, force))
            self.cycle = replace(RUNNING, job=f"cycle-7-new{len(self.started)}", state="queued", step=None)
            message = f"Training cycle {self.cycle.job} is queued."
            return {"job": self.cycle.job, "status": "queued", "message": message}

    def cancel(self, job: str) -> tuple[CycleJob, dict[str, Any]]:
        """End the cycle."""
        self._check()
        if self.cycle is None or self.cycle.job != job:
            raise JobsError("there is no such training cycle", got=job)
        if self.cycle.ended:
            raise JobsError(f"training cycle {job} has ended", got=self.cycle.state, expected="queued or running")
        before, self.cycle = self.cycle, replace(self.cycle, state="cancelled")
        self.cancelled.append(job)
        return before, {"line": "eggs"}

    def judgement_arrived(self, project_id: int) -> None:
        """Nothing here asks for this."""

    def propose(self, project_id: int) -> None:
        """Nor for this."""

    def champion_changed(self) -> None:
        """Note that somebody said so."""
        self._check()
        self.told += 1
