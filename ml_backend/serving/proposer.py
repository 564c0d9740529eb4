"""The current champion: loaded in the background, swapped atomically, and queried through one queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from ml_backend.registry import Registry, Version
from ml_backend.serving.batching import FairBatcher
from ml_backend.serving.version import Answer, AnswerPair, LoadedVersion, Question, load_version
from ml_backend.settings import Settings
from training.errors import RankloopError
from training.models import load_causal_lm

MAX_WAIT_S = 60.0
"""The longest pause between two attempts to load a champion after a failure."""

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Pairs = FairBatcher[LoadedVersion, Question, AnswerPair]
Scores = FairBatcher[LoadedVersion, Answer, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """The version that was loaded when a request arrived, queried in turn with other requests until its deadline.

    What misses the deadline is None, and so is everything while no version is loaded.
    """

    name: str
    until: float
    version: LoadedVersion | None
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

    def _in_time(self, batches: FairBatcher[LoadedVersion, Item, Result], items: Sequence[Item]) -> list[Result | None]:
        if self.version is None:
            return [None] * len(items)
        return batches.submit(self.version, items, deadline_s=max(0.0, self.until - time.monotonic()))


class Proposer:
    """Answers with the current champion.

    A thread polls the registry for the champion every `champion_poll_s` seconds, loads a new one beside the old one and
    then swaps a reference. Each request reads that reference once, so its answers never come from two versions.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._current: LoadedVersion | None = None
        self._expected = f"{settings.model_name}-loading"
        self._fault: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._computing = threading.Lock()
        size = settings.propose_batch
        self._pairs: Pairs = FairBatcher(self._propose, batch_size=size)
        self._scores: Scores = FairBatcher(self._score, batch_size=2 * size)

    def start(self) -> None:
        """Start loading and answering. Idempotent."""
        if self._watcher is None:
            self._pairs.start()
            self._scores.start()
            self._watcher = threading.Thread(target=self._watch, name="rankloop-champion", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Stop all threads after the current batch."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._pairs.stop()
        self._scores.stop()
        if self._watcher is not None:
            self._watcher.join()

    @property
    def version(self) -> str | None:
        """The name of the loaded version, or None."""
        current = self._current
        return current.name if current else None

    @property
    def expected(self) -> str:
        """The name of the version that answers now or will once it is loaded, so that Label Studio shows that version's
        stored predictions and requests the rest. Ends in `-loading` until the registry has named the champion.
        """
        return self.version or self._expected

    @property
    def fault(self) -> str | None:
        """Why the champion isn't loaded, as readable text; None if it is."""
        return self._fault

    @property
    def waiting(self) -> int:
        """The number of queued questions."""
        return len(self._pairs) + len(self._scores)

    def wait_until_loaded(self, timeout_s: float) -> bool:
        """Wait for the first version, but not once loading has failed. Returns whether one is loaded."""
        with self._changed:
            self._changed.wait_for(lambda: self._current or self._fault or self._stop.is_set(), timeout_s)
            return self._current is not None

    def asked(self, *, until: float) -> Asked:
        """The currently loaded version, for use by one request.

        Args:
            until: the request's deadline on the `time.monotonic` clock.
        """
        current = self._current
        return Asked(current.name if current else self.expected, until, current, self._pairs, self._scores)

    def _propose(self, version: LoadedVersion, questions: Sequence[Question]) -> list[AnswerPair]:
        with self._computing:
            return version.propose(questions)

    def _score(self, version: LoadedVersion, answers: Sequence[Answer]) -> list[float]:
        with self._computing:
            return version.log_odds(answers)

    @cached_property
    def _base(self) -> Any:
        """The base model, on which every version's reward model is built; loaded once, on first use."""
        return load_causal_lm(self._settings.model, self._settings.device)

    def _watch(self) -> None:
        wait_s = self._settings.champion_poll_s
        while not self._stop.is_set():
            try:
                self._look()
                wait_s = self._settings.champion_poll_s
                self._note(None)
            except RankloopError as error:
                wait_s = min(2 * wait_s, MAX_WAIT_S)
                self._note(str(error))
            except Exception as error:  # keep the thread alive: the next champion may load
                wait_s = min(2 * wait_s, MAX_WAIT_S)
                self._note(f"{type(error).__name__}: {error}", error)
            self._stop.wait(wait_s)

    def _look(self) -> None:
        """Load the champion if it differs from the loaded version."""
        if self._current is None:
            self._registry.ensure_base()
        champion = self._registry.current()
        if champion.name == self.version:
            return
        self._expected = champion.name
        started = time.monotonic()
        loaded = self._load(champion)
        with self._changed:
            before, self._current = self.version, loaded
            self._changed.notify_all()
        logger.info("now serving %s (before: %s); loaded in %.1f s", loaded.name, before, time.monotonic() - started)

    def _load(self, version: Version) -> LoadedVersion:
        return load_version(version.name, self._registry.fetch(version), self._settings, lambda: self._base)

    def _note(self, fault: str | None, error: Exception | None = None) -> None:
        """Record why the champion isn't loaded; a repeated fault is logged only once."""
        if fault is not None and fault != self._fault:
            logger.error("the champion can't be loaded, %s stays: %s", self.version or "nothing", fault, exc_info=error)
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
