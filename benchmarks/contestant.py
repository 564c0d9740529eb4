"""The controller's end of a measured process: start it, give it a turn, read how long it took."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.turns import threads

ROOT = Path(__file__).parent.parent


@dataclass(slots=True)
class Contestant:
    """One implementation of the work, in its own process.

    name: its name in the results.
    python: the interpreter of its environment.
    arguments: the interpreter's arguments.
    every: it takes part in every `every`-th round, since some peers take minutes.
    """

    name: str
    python: Path
    arguments: list[str]
    every: int = 1
    answers: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self, log: Path) -> None:
        """Start the process and wait until it is ready."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads()),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with log.open("a", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [str(self.python), *self.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        self._read(log)

    def turn(self, log: Path) -> dict[str, Any]:
        """Run one unit of work; returns its answer with `seconds` and `peak_mb`."""
        self._write("go\n")
        answer = self._read(log)
        self._read(log)  # ready again
        self.answers.append(answer)
        return answer

    def stop(self) -> None:
        """Let the process end."""
        if self.process is not None:
            # Closes both pipes; communicate tolerates a process that has already exited.
            self.process.communicate("stop\n", timeout=60)

    def seconds(self) -> list[float]:
        """The times of all turns but the first, which warms the caches."""
        times = [float(answer["seconds"]) for answer in self.answers]
        return times[1:] or times

    def peak_mb(self) -> float:
        """The process's peak memory."""
        return max(float(answer["peak_mb"]) for answer in self.answers)

    def _write(self, line: str) -> None:
        stream = None if self.process is None else self.process.stdin
        if stream is None:
            raise RuntimeError(f"{self.name} isn't running")
        stream.write(line)
        stream.flush()

    def _read(self, log: Path) -> dict[str, Any]:
        stream = None if self.process is None else self.process.stdout
        line = stream.readline() if stream else ""
        if not line:
            raise RuntimeError(f"{self.name} exited early; see {log}")
        message: dict[str, Any] = json.loads(line)
        return message
