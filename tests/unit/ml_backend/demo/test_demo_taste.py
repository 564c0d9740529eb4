"""The demo's --preference option: a user's function, checked before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.demo.taste import load_taste
from ml_backend.demo.useful import prefer_useful
from training.errors import ConfigError

SHORTER = """
def shorter(prompt, answer1, answer2):
    return "1" if len(answer1) < len(answer2) else "2"
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "taste.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_name_useful_answers_are_preferred() -> None:
    """The default is the demo's own taste."""
    assert load_taste(None) is prefer_useful


def test_the_more_positive_answer() -> None:
    """Kind words win, whichever side they stand on; about the same is a tie."""
    pytest.importorskip("vaderSentiment")
    taste = load_taste("sentiment")
    kind, unkind = "I love this wonderful day.", "I hate this terrible day."
    assert [taste("q", kind, unkind), taste("q", unkind, kind), taste("q", kind, kind)] == ["1", "2", "tie"]


def test_the_shorter_answer_but_not_a_blank_one() -> None:
    """Words count; saying nothing is no answer."""
    taste = load_taste("shorter")
    found = [
        taste("q", *pair) for pair in (("one", "one two"), ("one two", "one"), ("", "one"), ("one", ""), ("a", "b"))
    ]
    assert found == ["1", "2", "2", "1", "tie"]


def test_a_persons_function_decides(tmp_path: Path) -> None:
    """The function of the named file is called with the prompt and both answers."""
    taste = load_taste(f"{_file(tmp_path, SHORTER)}:shorter")
    assert taste("q", "short", "much longer") == "1"
    assert taste("q", "much longer", "short") == "2"


@pytest.mark.parametrize(
    ("text", "function", "complaint"),
    [
        (SHORTER, "longer", "no function longer"),
        ("longer = 3", "longer", "no function longer"),
        ("def longer(:", "longer", "SyntaxError"),
        ("import nothing_of_that_name", "longer", "nothing_of_that_name"),
        ("def longer(prompt): return '1'", "longer", "TypeError"),
        ("def longer(prompt, a, b): return 1", "longer", "got 1; expected"),
        ("def longer(prompt, a, b): return None", "longer", "an invalid choice"),
        ("def longer(prompt, a, b): return ['1']", "longer", "an invalid choice"),
        ("def longer(prompt, a, b): raise ValueError('no')", "longer", "ValueError: no"),
    ],
)
def test_a_function_that_does_not_work_is_refused_at_once(
    tmp_path: Path, text: str, function: str, complaint: str
) -> None:
    """Whatever is wrong with the user's file is a readable error, before any server starts."""
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint):
        load_taste(f"{path}:{function}")


@pytest.mark.parametrize("name", ["taste.py", "taste.py:", ":shorter", ""])
def test_a_name_without_file_or_function_says_how_to_write_it(name: str) -> None:
    """Anything but FILE.py:FUNCTION is an error."""
    with pytest.raises(ConfigError, match=r"FILE\.py:FUNCTION"):
        load_taste(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error has the path of the missing file."""
    with pytest.raises(ConfigError, match=r"nowhere\.py"):
        load_taste(f"{tmp_path / 'nowhere.py'}:shorter")


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    """A text file is an error."""
    path = tmp_path / "taste.txt"
    path.write_text(SHORTER)
    with pytest.raises(ConfigError, match="Python file"):
        load_taste(f"{path}:shorter")
