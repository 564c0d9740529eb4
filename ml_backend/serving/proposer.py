"""The champion at work: loaded in the background, swapped in one step, asked through one queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ml_backend.serving.batching import FairBatcher
from ml_backend.serving.version import AnswerPair, LoadedVersion
from training.errors import RankloopError
from training.models.policy import load_causal_lm

if TYPE_CHECKING:
    from ml_backend.registry import Registry, Version
    from ml_backend.settings import Settings

MAX_WAIT_S = 60.0
"""Longest pause between two attempts at loading a champion that could not be loaded."""

logger = logging.getLogger(__name__)

Question = tuple[str, str]
"""(key, prompt): the key seeds the sampling."""
Answer = tuple[str, str]
"""(prompt, answer)."""


class Proposer:
    """Answers with the champion, whichever that is by now.

    A thread asks the registry for the champion every `champion_poll_s` seconds, loads a new one beside the old one and
    then replaces one reference. Whoever asks takes that reference once, so the answers to one request never come from
    two versions.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._current: LoadedVersion | None = None
        self._expected: str | None = None
        self._fault: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._computing = threading.Lock()
        size = settings.propose_batch
        self._pairs: FairBatcher[LoadedVersion, Question, AnswerPair] = FairBatcher(self._propose, batch_size=size)
        self._scores: FairBatcher[LoadedVersion, Answer, float] = FairBatcher(self._score, batch_size=2 * size)

    def start(self) -> None:
        """Start loading and answering. Doing it twice does no harm."""
        if self._watcher is None:
            self._pairs.start()
            self._scores.start()
            self._watcher = threading.Thread(target=self._watch, name="rankloop-champion", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """End all threads, after the batch that is running."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._pairs.stop()
        self._scores.stop()
        if self._watcher is not None:
            self._watcher.join()

    @property
    def version(self) -> str | None:
        """The version that is loaded, None while there is none."""
        current = self._current
        return current.name if current else None

    @property
    def expected(self) -> str | None:
        """The version that answers now, or once it is loaded; None until the registry has said which."""
        return self.version or self._expected

    @property
    def fault(self) -> str | None:
        """Why the champion isn't loaded, for people to read; None when all is well."""
        return self._fault

    @property
    def waiting(self) -> int:
        """How many questions wait for their turn."""
        return len(self._pairs) + len(self._scores)

    def wait_until_loaded(self, timeout_s: float) -> bool:
        """Wait for the first version; gives up at once when loading has failed. Whether one is loaded."""
        with self._changed:
            self._changed.wait_for(lambda: self._current or self._fault or self._stop.is_set(), timeout_s)
            return self._current is not None

    def propose(self, questions: Sequence[Question], *, deadline_s: float) -> list[AnswerPair | None]:
        """Sample a pair of answers to each prompt, all from one version.

        Args:
            questions: (key, prompt) pairs; the same key, prompt and version give the same pair.
            deadline_s: how long the caller can wait.

        Returns:
            One pair per question, in order; None where the time didn't suffice or no version is loaded.
        """
        current = self._current
        if current is None:
            return [None] * len(questions)
        return self._pairs.submit(current, questions, deadline_s=deadline_s)

    def log_odds(self, answers: Sequence[Answer], *, deadline_s: float) -> tuple[str, list[float | None]] | None:
        """Score (prompt, answer) pairs with the champion's reward model; see `LoadedVersion.log_odds`.

        Returns:
            The version and one score per pair, None where the time didn't suffice; or None when no version is loaded,
            or the one that is has no reward model.
        """
        current = self._current
        if current is None or current.scorer is None:
            return None
        return current.name, self._scores.submit(current, answers, deadline_s=deadline_s)

    def _propose(self, version: LoadedVersion, questions: Sequence[Question]) -> list[AnswerPair]:
        with self._computing:
            return version.propose(questions)

    def _score(self, version: LoadedVersion, answers: Sequence[Answer]) -> list[float]:
        with self._computing:
            return version.log_odds(answers)

    @cached_property
    def _base(self) -> Any:
        """The base model, which every version's reward model is built on; loaded once, when first needed."""
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
            except Exception as error:  # the thread must live: the next champion may be sound
                wait_s = min(2 * wait_s, MAX_WAIT_S)
                self._note(f"{type(error).__name__}: {error}", error)
            self._stop.wait(wait_s)

    def _look(self) -> None:
        """Load the champion if it is another than the one that is loaded."""
        if self._current is None:
            self._registry.ensure_base()
        champion = self._registry.champion() or self._registry.ensure_base()
        if champion.name == self.version:
            return
        self._expected = champion.name
        started = time.monotonic()
        loaded = self._load(champion)
        with self._changed:
            before, self._current = self.version, loaded
            self._changed.notify_all()
        logger.info("%s answers now (before: %s); loaded in %.1f s", loaded.name, before, time.monotonic() - started)

    def _load(self, version: Version) -> LoadedVersion:
        return LoadedVersion.load(
            version.name,
            self._registry.fetch(version),
            base=lambda: self._base,
            sampling=self._settings.sampling(),
            text=self._settings.cycle_config().text,
            device=self._settings.device,
            precision=self._settings.proposal_precision,
        )

    def _note(self, fault: str | None, error: Exception | None = None) -> None:
        """Remember why the champion isn't loaded; a fault that stays is logged once."""
        if fault is not None and fault != self._fault:
            logger.error("the champion can't be loaded, %s stays: %s", self.version or "nothing", fault, exc_info=error)
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
