"""A page never hangs on a slow part, and asks each part only once in a few seconds."""

from __future__ import annotations

import threading

from ml_backend.errors import RegistryError
from ml_backend.page.remembered import FRESH_S, Remembered


class Clock:
    """A clock to turn by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_an_answer_is_remembered_for_some_seconds() -> None:
    """It is asked for once while fresh, and again afterwards or when something was changed."""
    clock, answers = Clock(), iter(["first", "second", "third"])
    known = Remembered(clock)
    assert [known.get("part", lambda: next(answers)).value for _ in range(3)] == ["first"] * 3
    clock.now += FRESH_S + 0.1
    assert known.get("part", lambda: next(answers)).value == "second"
    known.forget()
    assert known.get("part", lambda: next(answers)).value == "third"


def test_a_part_that_hangs_holds_nobody_up() -> None:
    """The last answer is shown meanwhile, and the part isn't asked twice at once."""
    clock, gate, asked = Clock(), threading.Event(), []

    def slow() -> str:
        asked.append(1)
        assert gate.wait(30)
        return "new"

    known = Remembered(clock, patience_s=0.05)
    assert known.get("part", lambda: "old").value == "old"
    clock.now += FRESH_S + 0.1
    assert [known.get("part", slow).value for _ in range(3)] == ["old"] * 3
    assert len(asked) == 1
    gate.set()
    assert _until(lambda: known.get("part", slow).value == "new")


def test_a_part_that_never_answered_says_so() -> None:
    """There is nothing to show, and it says what to do."""
    gate = threading.Event()
    known = Remembered(patience_s=0.05)
    found = known.get("part", lambda: gate.wait(30))
    assert (found.value, found.at) == (None, None)
    assert "Reload" in (found.fault or "")
    gate.set()


def test_a_fault_keeps_the_last_answer() -> None:
    """A part that fails shows its fault beside what it said before; one that comes back has none."""
    clock = Clock()
    known = Remembered(clock)

    def fails() -> str:
        raise RegistryError("MLflow is away", remedy="Start it.")

    before = known.get("part", lambda: "old")
    clock.now += FRESH_S + 0.1
    failed = known.get("part", fails)
    assert (failed.value, failed.at, failed.fault) == ("old", before.at, "MLflow is away. Start it.")
    clock.now += FRESH_S + 0.1
    assert known.get("part", lambda: "new").fault is None


def test_what_nobody_foresaw_is_no_hole_in_the_page() -> None:
    """The log has it; the page says where to look, and nothing of its text."""
    known = Remembered()
    found = known.get("part", lambda: [][0])
    assert found.value is None
    assert found.fault == "An unforeseen error; the log has the reason."


def _until(condition: object) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.02) for _ in range(500))  # type: ignore[operator]
