"""What an examination finds: a subject, a verdict, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from training.errors import RankloopError


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "look"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def ok(subject: str, detail: str) -> Finding:
    """All is well."""
    return Finding(subject, Verdict.OK, detail)


def wrong(subject: str, detail: str, remedy: str) -> Finding:
    """The loop won't turn like this."""
    return Finding(subject, Verdict.WRONG, detail, remedy)


def look(subject: str, detail: str, remedy: str) -> Finding:
    """Works, but not as well as it should."""
    return Finding(subject, Verdict.WARNING, detail, remedy)


def guarded(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that fails is a finding, not the end of the examination."""
    try:
        yield from check()
    except RankloopError as error:
        yield wrong(subject, error.what if error.got is None else f"{error.what} ({error.got})", error.remedy or "")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        remedy = "Look at the folder's disk and permissions; RANKLOOP_DATA_DIR moves the data folder."
        yield wrong(subject, f"{error.strerror or error}{where}", remedy)
