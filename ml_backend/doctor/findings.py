"""Findings of the doctor: a subject, a verdict, and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from training.errors import RankloopError


class Verdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "look"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and how to fix it."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def ok(subject: str, detail: str) -> Finding:
    """A check that passed."""
    return Finding(subject, Verdict.OK, detail)


def wrong(subject: str, detail: str, remedy: str) -> Finding:
    """A fault that stops the loop."""
    return Finding(subject, Verdict.WRONG, detail, remedy)


def look(subject: str, detail: str, remedy: str) -> Finding:
    """A warning: it works, but not as well as it should."""
    return Finding(subject, Verdict.WARNING, detail, remedy)


def guarded(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run a check, turning an error into a finding so that the other checks still run."""
    try:
        yield from check()
    except RankloopError as error:
        yield wrong(subject, error.what if error.got is None else f"{error.what} ({error.got})", error.remedy or "")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        remedy = "Check the folder's disk and permissions; RANKLOOP_DATA_DIR moves the data folder."
        yield wrong(subject, f"{error.strerror or error}{where}", remedy)
