"""A run's folder: finished runs are left alone, other runs are refused, and results are never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.config import TextConfig
from training.errors import CheckpointError, ConfigError
from training.runs.folder import digest_of, open_run


def _learn_something_and_fail(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step-000001.pt").touch()
    raise ZeroDivisionError


def test_a_finished_run_is_done_already(tmp_path: Path) -> None:
    """The first time there is work to do; after it succeeds there is none, and its checkpoints are gone."""
    with open_run(tmp_path, "reward", {"seed": 1}) as finished:
        assert not finished
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "step-000001.pt").touch()
    assert not (tmp_path / "checkpoints").exists()
    with open_run(tmp_path, "reward", {"seed": 1}) as finished:
        assert finished


def test_a_failed_run_is_not_finished(tmp_path: Path) -> None:
    """After an error the same run may resume from its checkpoints."""
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, "reward", {"seed": 1}):
        _learn_something_and_fail(tmp_path)
    with open_run(tmp_path, "reward", {"seed": 1}) as finished:
        assert not finished
        assert (tmp_path / "checkpoints" / "step-000001.pt").exists()


@pytest.mark.parametrize(("stage", "inputs"), [("ppo", {"seed": 1}), ("reward", {"seed": 2})])
def test_another_run_is_refused(tmp_path: Path, stage: str, inputs: dict[str, object]) -> None:
    """A folder with checkpoints or results refuses a run of another stage or with other inputs."""
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, "reward", {"seed": 1}):
        _learn_something_and_fail(tmp_path)
    with pytest.raises(CheckpointError, match="holds another run"), open_run(tmp_path, stage, inputs):
        pass


def test_a_folder_where_nothing_was_learned_takes_any_run(tmp_path: Path) -> None:
    """A mistyped path doesn't block the folder for the correct one."""
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, "reward", {"model": "mistyped"}):
        _ = 1 / 0
    with open_run(tmp_path, "reward", {"model": "right"}) as finished:
        assert not finished


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    """The error names the file and says how to start afresh."""
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json"), open_run(tmp_path, "reward", {}):
        pass


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second writer is refused while the first is running."""
    with (
        open_run(tmp_path, "reward", {}),
        pytest.raises(ConfigError, match="another process"),
        open_run(tmp_path, "reward", {}),
    ):
        pass


def test_the_content_of_files_counts_not_their_place(tmp_path: Path) -> None:
    """The same content elsewhere is the same input; a changed byte is another."""
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(text)
        (tmp_path / name / ".lock").write_text(name)
    assert digest_of(tmp_path / "a") == digest_of(str(tmp_path / "b"))
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "c")
    assert digest_of(tmp_path / "a" / "weights") == digest_of(tmp_path / "b" / "weights")


def test_settings_and_names_count_by_value() -> None:
    """Settings with equal values are the same input, as are equal model names that aren't local folders."""
    assert digest_of(TextConfig()) == digest_of(TextConfig(separator="\n"))
    assert digest_of(TextConfig()) != digest_of(TextConfig(separator=" "))
    assert digest_of("a-model-on-the-hub") != digest_of("another-model-on-the-hub")
    assert digest_of(None) != digest_of("")


def test_what_a_run_was_made_from_can_be_read(tmp_path: Path) -> None:
    """`run.json` names stage, state and a fingerprint of each input."""
    with open_run(tmp_path, "ppo", {"seed": 1}):
        found = json.loads((tmp_path / "run.json").read_text())
    assert found == {"stage": "ppo", "finished": False, "inputs": {"seed": digest_of(1)}}
