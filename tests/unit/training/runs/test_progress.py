"""What a person sees of a run, and what the process that started it reads."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from training.runs.progress import StageProgress


def _console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=60, force_terminal=terminal, color_system=None, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_progress_json_holds_the_last_step_and_the_newest_metrics(tmp_path: Path) -> None:
    """The end of a run is always written; metrics keep their value until they are given again."""
    with StageProgress(tmp_path, "reward", quiet=True) as progress:
        progress.step(1, 3, {"train_loss": 0.7, "accuracy": None})
        assert json.loads((tmp_path / "progress.json").read_text())["step"] == 1
        progress.step(2, 3, {"train_loss": 0.6})
        progress.step(3, 3, {"accuracy": 0.8})
    assert json.loads((tmp_path / "progress.json").read_text()) == {
        "stage": "reward",
        "step": 3,
        "total": 3,
        "metrics": {"train_loss": 0.6, "accuracy": 0.8},
    }


def test_progress_json_is_not_written_at_every_step(tmp_path: Path) -> None:
    """A thousand quick steps don't become a thousand files."""
    inodes = set()
    with StageProgress(tmp_path, "sft", quiet=True) as progress:
        for step in range(1, 200):
            progress.step(step, 1000)
            inodes.add((tmp_path / "progress.json").read_text())
    assert len(inodes) < 20


def test_the_table_has_one_head_and_one_line_a_row(tmp_path: Path) -> None:
    """Columns line up, lines don't wrap, and an unknown number is a dash."""
    console = _console()
    with StageProgress(tmp_path, "ppo", console=console) as progress:
        for step in (1, 2):
            progress.row({"step": step, "train loss": 0.123456, "val loss": None, "accuracy": 0.5, "reward": -1.0})
    lines = _text(console).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["step", "train", "loss", "val", "loss", "accuracy", "reward"]
    assert lines[1].split() == ["1", "0.1235", "-", "0.5", "-1"]
    assert {len(line) for line in lines} == {5 * 14}


def test_the_bar_is_for_terminals_only(tmp_path: Path) -> None:
    """In a log there is no bar; on a terminal there is one with the number of steps."""
    for terminal in (False, True):
        console = _console(terminal=terminal)
        with StageProgress(tmp_path, "ppo", console=console) as progress:
            progress.step(5, 5)
        assert ("5/5" in _text(console)) == terminal


def test_a_process_that_isnt_in_charge_writes_nothing(tmp_path: Path) -> None:
    """Without a folder there is no file."""
    with StageProgress(None, "sft", quiet=True) as progress:
        progress.step(1, 1)
    assert not list(tmp_path.iterdir())


def test_the_evaluation_at_the_end_is_seen(tmp_path: Path) -> None:
    """On a terminal the bar counts prompts, a log gets one line, and the file has the share done."""
    for terminal in (False, True):
        console = _console(terminal=terminal)
        with StageProgress(tmp_path, "ppo", console=console) as progress:
            progress.step(5, 5)
            progress.evaluating(0, 40)
            progress.evaluating(40, 40)
        text = _text(console)
        assert "Evaluating on 40 held-out prompts" in text
        assert ("evaluation" in text and "40/40" in text) == terminal
    found = json.loads((tmp_path / "progress.json").read_text())
    assert (found["step"], found["total"], found["metrics"]) == (5, 5, {"evaluated_share": 1.0})
