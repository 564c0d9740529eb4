"""A process that can be killed and restarted at any time, and training that is over quickly."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_backend.processes.children import Children
from ml_backend.processes.logs import log_tail


class Killable:
    """A process, with its child processes, that can be killed and restarted."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = command
        self._environment = environment
        self._logs = logs
        self._children: Children | None = None
        self.pid = 0

    @property
    def running(self) -> bool:
        """Whether it is supposed to be running."""
        return self._children is not None

    def start(self) -> None:
        """Start it."""
        self._children = Children(self._environment, logs=self._logs)
        self.pid = self._children.start(self.name, self._command)

    def kill(self) -> None:
        """Send SIGKILL to its whole process group."""
        if self._children is not None:
            children, self._children = self._children, None
            os.killpg(self.pid, signal.SIGKILL)
            children.stop()

    def ended(self, timeout_s: float) -> int | None:
        """Wait until it has ended by itself. Returns its exit code, None if it still runs."""
        found = self._children.wait(timeout_s) if self._children else None
        if found is None:
            return None
        self._children = None
        return found[1]

    def died(self, timeout_s: float) -> bool:
        """Wait until it has died by SIGKILL."""
        ended = self._children.wait(timeout_s) if self._children else None
        if ended is None:
            return False
        if ended[1] != -signal.SIGKILL:
            raise RuntimeError(f"{self.name} ended with code {ended[1]}:\n{log_tail(self.log, 40)}")
        self._children = None
        return True


def brief_training(iterations: int) -> dict[str, Any]:
    """Training settings under which everything is over in seconds, with a checkpoint after each iteration of PPO."""
    return {
        "text": {"max_prompt_tokens": 32, "max_answer_tokens": 32},
        "reward": {"epochs": 1},
        "ppo": {
            "iterations": iterations,
            "prompts_per_iteration": 4,
            "minibatch_size": 4,
            "epochs": 1,
            "checkpoint_every_iterations": 1,
            "evaluation_answers": 1,
            "best_of": 2,
            "origin_answers": 2,
            "sampling": {"top_k": 0, "top_p": 1.0, "max_new_tokens": 8},
        },
        "gates": {
            "min_preferences": 12,
            "min_reward_accuracy": 0.0,
            "min_win_rate": 0.0,
            "max_kl_nats": 1000.0,
        },
    }
