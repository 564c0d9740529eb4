"""The real worker, which sends itself SIGKILL at the moments that `kills.json` in its data folder names.

`[["before", "register"], ["after", "register"]]` kills it when the step begins, and, in its next life, when the step's
work is done but not yet recorded, the worst moment of all.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ml_backend.label_studio.client import open_label_studio
from ml_backend.loop.cycle import CycleSteps
from ml_backend.loop.worker import Worker
from ml_backend.registry.registry import Registry
from ml_backend.settings import load_settings
from training.atomic import write_atomically

PLAN = "kills.json"
READY = "the worker is ready"
STEPS = {
    "attempt": "attempt",
    "begin": "begin",
    "snapshot": "snapshot",
    "preferences": "prepare",
    "sft": "sft",
    "reward": "reward",
    "reward gate": "reward_gate",
    "ppo": "ppo",
    "policy gate": "policy_gate",
    "register": "register",
    "promote": "promote",
    "finish": "finish",
}
"""A cycle's steps by name, each with its method."""


def _die_if_planned(plan: Path, moment: str, name: str) -> None:
    kills = json.loads(plan.read_bytes()) if plan.is_file() else []
    if kills and kills[0] == [moment, name]:
        write_atomically(plan, json.dumps(kills[1:]))
        os.kill(os.getpid(), signal.SIGKILL)


def _mortal(plan: Path, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        _die_if_planned(plan, "before", name)
        result = function(*arguments, **named)
        _die_if_planned(plan, "after", name)
        return result

    return run


def main() -> None:
    """Work until killed or told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = load_settings()
    registry = Registry(settings)
    steps: Any = CycleSteps(settings, registry, partial(open_label_studio, settings))
    for name, method in STEPS.items():
        setattr(steps, method, _mortal(settings.home() / PLAN, name, getattr(steps, method)))
    Worker(settings, registry, steps).start()
    logging.info(READY)
    signal.pause()


if __name__ == "__main__":
    main()
