"""Files appear whole or not at all, and one process writes at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.atomic import atomic_folder, one_writer, write_atomically
from training.errors import ConfigError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new content replaces the old, and nothing else is left in the folder."""
    path = tmp_path / "deep" / "report.json"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["report.json"]


def test_a_file_that_fails_to_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """A lone surrogate can't be written; the old file stays and no temporary file is left."""
    path = tmp_path / "report.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_its_name_only_when_complete(tmp_path: Path) -> None:
    """The folder doesn't exist under its name while it is being filled."""
    target = tmp_path / "policy"
    with atomic_folder(target) as folder:
        (folder / "weights").write_text("1")
        assert not target.exists()
    assert (target / "weights").read_text() == "1"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """Nothing from the old folder remains in the new one."""
    target = tmp_path / "policy"
    for name in ("old", "new"):
        with atomic_folder(target) as folder:
            (folder / name).touch()
    assert [item.name for item in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_whose_making_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """An error while filling it removes the partial folder."""
    target = tmp_path / "policy"
    with atomic_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / "new").write_text(str(1 / 0))
    assert [item.name for item in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """A process that holds the folder keeps others out, and its end, even a kill, lets them in."""
    script = (
        "import sys, pathlib; from training.atomic import one_writer\n"
        "with one_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process is writing"), one_writer(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with one_writer(tmp_path):
        pass
