"""What one request asks: the version that was loaded for its line when it arrived, in turn with other requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ml_backend.serving.batching import FairBatcher
from ml_backend.serving.match import Answerer
from ml_backend.serving.version import Answer, AnswerPair, Question

Item = TypeVar("Item")
Result = TypeVar("Result")
Pairs = FairBatcher[Answerer, Question, AnswerPair]
Scores = FairBatcher[Answerer, Answer, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """The version that was loaded when a request arrived, queried in turn with other requests until its deadline.

    What misses the deadline is None, and so is everything while no version is loaded.
    """

    name: str
    until: float
    version: Answerer | None
    pairs: Pairs
    scores: Scores

    @property
    def judges(self) -> bool:
        """Whether there is a reward model; assumed while no version is loaded."""
        return self.version is None or self.version.judges

    def propose(self, questions: Sequence[Question]) -> list[AnswerPair | None]:
        """Sample a pair of answers to each prompt; see `LoadedVersion.propose`."""
        return self._in_time(self.pairs, questions)

    def log_odds(self, answers: Sequence[Answer]) -> list[float | None]:
        """Score answers with the reward model; see `LoadedVersion.log_odds`."""
        return self._in_time(self.scores, answers)

    def _in_time(self, batches: FairBatcher[Answerer, Item, Result], items: Sequence[Item]) -> list[Result | None]:
        if self.version is None:
            return [None] * len(items)
        return batches.submit(self.version, items, deadline_s=max(0.0, self.until - time.monotonic()))
