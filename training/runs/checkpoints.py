"""Numbered checkpoints of one run, written atomically and tied to the run's inputs."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from training.errors import CheckpointError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)\.pt")


def run_digest(*parts: str) -> str:
    """A hash of everything that determines a run's result: model digests, data digest, settings as JSON."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part.encode())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run in one folder; only the newest `keep` are kept.

    A checkpoint is flushed to disk under another name and renamed, so a kill at any moment leaves older ones intact.

    Args:
        folder: created when the first checkpoint is saved.
        digest: identifies the run's inputs, from `run_digest`.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, digest: str, *, keep: int = 2) -> None:
        self._folder = folder
        self._digest = digest
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        if not self._folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match.group(1)) for match in matches if match)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps (tensors, numbers, strings and containers of them); delete old ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(step)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            torch.save({"digest": self._digest, "step": step, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        for old in self.steps()[: -self._keep]:
            self._path(old).unlink()

    def load(self, step: int) -> dict[str, Any]:
        """The state after `step` steps.

        Raises:
            CheckpointError: the file is missing or damaged, or belongs to another run.
        """
        path = self._path(step)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError("the checkpoint can't be read", got=str(path), remedy="Delete it.") from error
        if content["digest"] != self._digest:
            raise CheckpointError(
                "the checkpoint belongs to another run",
                got=str(path),
                expected="the same model, data and settings as now",
                remedy="Write to another folder, or delete this one to start afresh.",
            )
        state: dict[str, Any] = content["state"]
        return state

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest readable checkpoint, or None if there is none to resume from.

        Raises:
            CheckpointError: it belongs to another run.
        """
        for step in reversed(self.steps()):
            try:
                return step, self.load(step)
            except CheckpointError as error:
                if error.__cause__ is None:
                    raise
                logger.warning("%s Trying an older one.", error)
        return None

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}.pt"
