"""Checkpoints load as they were saved, belong to one run, and don't pile up."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from training.errors import CheckpointError
from training.runs.checkpoints import Checkpoints, run_digest


def test_the_state_comes_back(tmp_path: Path) -> None:
    """Tensors, numbers, strings and containers survive the round trip."""
    state = {"weights": {"a": torch.arange(3.0)}, "curve": [{"loss": 0.5, "accuracy": None}], "stopped": "why"}
    Checkpoints(tmp_path / "new", "run").save(7, state)
    step, found = Checkpoints(tmp_path / "new", "run").latest() or (0, {})
    assert step == 7
    assert torch.equal(found["weights"]["a"], torch.tensor([0.0, 1.0, 2.0]))
    assert found["curve"] == state["curve"]
    assert found["stopped"] == "why"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Of four checkpoints the last two stay, by number rather than by name or time."""
    checkpoints = Checkpoints(tmp_path, "run")
    for step in (9, 10, 100, 99):
        checkpoints.save(step, {})
    assert checkpoints.steps() == [99, 100]
    assert len(list(tmp_path.iterdir())) == 2


def test_there_is_none_at_first(tmp_path: Path) -> None:
    """A missing folder has no checkpoints."""
    assert Checkpoints(tmp_path / "nothing", "run").latest() is None


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    """A checkpoint from other inputs is an error, never silently used or overwritten."""
    Checkpoints(tmp_path, "run").save(1, {})
    with pytest.raises(CheckpointError, match="another run"):
        Checkpoints(tmp_path, "other").latest()


def test_a_truncated_checkpoint_gives_way_to_an_older_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest readable one is used, with a warning that names the damaged one."""
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(1, {"value": torch.ones(100)})
    checkpoints.save(2, {"value": torch.zeros(100)})
    newest = tmp_path / "step-000002.pt"
    newest.write_bytes(newest.read_bytes()[:300])
    with caplog.at_level(logging.WARNING):
        step, state = checkpoints.latest() or (0, {})
    assert step == 1
    assert torch.equal(state["value"], torch.ones(100))
    assert "step-000002" in caplog.text


def test_an_unfinished_write_is_no_checkpoint(tmp_path: Path) -> None:
    """Files that a killed process left half written are ignored."""
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(1, {})
    (tmp_path / "step-000002.unfinished").write_bytes(b"half")
    assert checkpoints.steps() == [1]


def test_the_run_digest_depends_on_every_part_and_on_where_it_ends() -> None:
    """Moving a letter from one part to the next changes the digest."""
    assert run_digest("ab", "c") == run_digest("ab", "c")
    assert run_digest("ab", "c") != run_digest("a", "bc")
