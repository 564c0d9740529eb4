"""Every error rankloop raises on purpose.

RankloopError
├── ConfigError          a setting or an option can't be used
├── DataError            preferences, prompts, exports or annotations can't be used
├── ModelError           a model or tokenizer can't be loaded, or has an unsupported architecture
├── CheckpointError      a checkpoint is truncated or belongs to another run
└── DivergedError        training diverged (NaN, KL, repetition); the last good state is kept

Errors caused by outside systems and requests are in ml_backend/errors.py.
"""

from __future__ import annotations


class RankloopError(Exception):
    """Says what is wrong, what was given, what was expected, and how to fix it.

    Args:
        what: the problem in one clause, for instance `unknown verdict`.
        got: the offending value, shown with `repr` and shortened; leave it out if it is secret.
        expected: what would have been accepted, in words.
        remedy: what the user can do about it, as a full sentence.
    """

    def __init__(
        self, what: str, *, got: object = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        self.what = what
        self.got = got
        self.expected = expected
        self.remedy = remedy
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        clauses = [self.what]
        if self.got is not None:
            clauses.append(f"got {_shorten(repr(self.got))}")
        if self.expected is not None:
            clauses.append(f"expected {self.expected}")
        sentence = "; ".join(clauses).rstrip(".") + "."
        return f"{sentence} {self.remedy}" if self.remedy else sentence


class ConfigError(RankloopError):
    """A setting or an option can't be used."""


class DataError(RankloopError):
    """Preferences, prompts, exports or annotations can't be used."""


class ModelError(RankloopError):
    """A model or tokenizer can't be loaded, or has an unsupported architecture."""


class CheckpointError(RankloopError):
    """A checkpoint is truncated or belongs to another run."""


class DivergedError(RankloopError):
    """Training diverged; the last good state is kept."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if the message is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
