"""The lines' champions: loaded in the background, swapped atomically, and queried through one queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ml_backend.lines import ProjectSettings
from ml_backend.registry import DEFAULT_LINE, Registry, Version
from ml_backend.serving.asked import Asked, Pairs, Scores
from ml_backend.serving.batching import FairBatcher
from ml_backend.serving.match import Answerer
from ml_backend.serving.slot import Slot
from ml_backend.serving.version import Answer, AnswerPair, LoadedVersion, Question, load_version
from ml_backend.settings import Settings
from training.errors import DataError, ModelError, RankloopError
from training.models import load_causal_lm

MAX_WAIT_S = 60.0
"""The longest pause between two attempts to load a champion after a failure."""

logger = logging.getLogger(__name__)


class Proposer:
    """Answers with the champion of the line that is asked.

    A thread asks the registry for the champions every `champion_poll_s` seconds, loads a new one beside the old one and
    then swaps a reference. Each request reads that reference once, so its answers never come from two versions. A line
    is loaded when it is first asked; at most `lines_in_memory` are, and the one not asked for longest gives way. What a
    version shares with the base model is in memory once.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._slots: OrderedDict[str, Slot] = OrderedDict()  # the line asked last stands last
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._computing = threading.Lock()
        size = settings.propose_batch
        self._pairs: Pairs = FairBatcher(self._propose, batch_size=size)
        self._scores: Scores = FairBatcher(self._score, batch_size=2 * size)

    def start(self) -> None:
        """Start loading and answering. Idempotent."""
        if self._watcher is None:
            self._use(DEFAULT_LINE)
            self._pairs.start()
            self._scores.start()
            self._watcher = threading.Thread(target=self._watch, name="rankloop-champion", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Stop all threads after the current batch."""
        self._stop.set()
        self._wake.set()
        with self._changed:
            self._changed.notify_all()
        self._pairs.stop()
        self._scores.stop()
        if self._watcher is not None:
            self._watcher.join()

    @property
    def version(self) -> str | None:
        """The name of the version that is loaded for the line asked last, or None."""
        slot = self._last()
        return slot.current.name if slot and slot.current else None

    @property
    def fault(self) -> str | None:
        """Why a line's champion isn't loaded, as readable text; None if all that are wanted are."""
        with self._changed:
            faults = [slot.fault for slot in self._slots.values() if slot.fault]
        return faults[-1] if faults else None

    @property
    def waiting(self) -> int:
        """The number of queued questions."""
        return len(self._pairs) + len(self._scores)

    def loaded(self) -> dict[str, str | None]:
        """The version that is in memory for each line that was ever asked, None if there is none now."""
        with self._changed:
            return {line: slot.current.name if slot.current else None for line, slot in self._slots.items()}

    def fault_of(self, line: str) -> str | None:
        """Why a line has nothing to answer with, as readable text; None while it has, or is loading."""
        slot = self._slots.get(line)
        return slot.fault if slot and slot.current is None else None

    def expected(self, line: str = DEFAULT_LINE, timeout_s: float = 0.0) -> str:
        """The name of the version that answers for a line now or will once it is loaded, so that Label Studio shows
        that version's stored predictions and requests the rest. Ends in `-loading` while that isn't known.

        Args:
            line: the line.
            timeout_s: how long to wait for the registry to name the champion.
        """
        slot = self._use(line)
        with self._changed:
            if timeout_s and self._watcher is not None:
                known = lambda: not slot.expected.endswith("-loading") or slot.fault or self._stop.is_set()  # noqa: E731
                self._changed.wait_for(known, timeout_s)
            answers = slot.answers(self._settings.contest_share)
            return answers.name if answers else slot.expected

    def wait_until_loaded(self, timeout_s: float, line: str = DEFAULT_LINE) -> bool:
        """Wait for a line's first version, but not once loading has failed. Returns whether one is loaded."""
        slot = self._use(line)
        with self._changed:
            self._changed.wait_for(lambda: slot.current or slot.fault or self._stop.is_set(), timeout_s)
            return slot.current is not None

    def asked(
        self,
        *,
        until: float,
        line: str = DEFAULT_LINE,
        settings: ProjectSettings = ProjectSettings(),  # noqa: B008
    ) -> Asked:
        """The version that is loaded for a line now, for use by one request.

        Args:
            until: the request's deadline on the `time.monotonic` clock.
            line: the line.
            settings: the project's own settings.
        """
        slot = self._use(line)
        with self._changed:
            current = slot.answers(self._settings.contest_share)
            if current is not None:
                own = ProjectSettings(None, settings.system_prompt, settings.max_new_tokens)
                if own not in slot.told:
                    slot.told[own] = current.told(own)
                current = slot.told[own]
            return Asked(current.name if current else slot.expected, until, current, self._pairs, self._scores)

    def check(self, line: str, settings: ProjectSettings) -> None:
        """Check that the line's loaded version can follow a project's settings.

        Raises:
            DataError: it can't.
        """
        try:
            self.asked(until=0.0, line=line, settings=settings)
        except ModelError as error:
            raise DataError(f"extra_params can't be used: {error.what}", remedy=error.remedy) from error

    def _last(self) -> Slot | None:
        with self._changed:
            return next(reversed(self._slots.values()), None)

    def _use(self, line: str) -> Slot:
        """The line's slot; the line is loaded soon if it isn't, and another gives way if there are too many."""
        with self._changed:
            slot = self._slots.get(line)
            if slot is None:
                named = self._settings.model_name + ("" if line == DEFAULT_LINE else f".{line}")
                slot = self._slots[line] = Slot(line, f"{named}-loading", self._settings.champion_poll_s)
                self._wake.set()
            if not slot.wanted:
                slot.wanted, slot.due = True, float("-inf")
                self._wake.set()
            self._slots.move_to_end(line)
            wanted = [other for other in self._slots.values() if other.wanted]
            for other in wanted[: max(0, len(wanted) - self._settings.lines_in_memory)]:
                other.let_go()
                logger.info("line %s gives way to others; it is loaded again when it is asked", other.line)
            return slot

    def _propose(self, version: Answerer, questions: Sequence[Question]) -> list[AnswerPair]:
        with self._computing:
            return version.propose(questions)

    def _score(self, version: Answerer, answers: Sequence[Answer]) -> list[float]:
        with self._computing:
            return version.log_odds(answers)

    @cached_property
    def _base(self) -> Any:
        """The base model, whose weights every version shares as far as they are equal; loaded once, on first use."""
        return load_causal_lm(self._settings.model, self._settings.device)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            with self._changed:
                wanted = [slot for slot in reversed(self._slots.values()) if slot.wanted]
            for slot in wanted:
                if slot.due <= time.monotonic() and not self._stop.is_set():
                    self._look_at(slot)
            due = min((slot.due for slot in wanted), default=float("inf"))
            self._wake.wait(max(0.0, min(due - time.monotonic(), MAX_WAIT_S)))

    def _look_at(self, slot: Slot) -> None:
        try:
            self._load_champion(slot)
            self._load_challenger(slot)
            slot.wait_s = self._settings.champion_poll_s
            self._note(slot, None)
        except RankloopError as error:
            slot.wait_s = min(2 * slot.wait_s, MAX_WAIT_S)
            self._note(slot, str(error))
        except Exception as error:  # keep the thread alive: the next champion may load
            slot.wait_s = min(2 * slot.wait_s, MAX_WAIT_S)
            self._note(slot, f"{type(error).__name__}: {error}", error)
        slot.due = time.monotonic() + slot.wait_s

    def _load_champion(self, slot: Slot) -> None:
        """Load the line's champion if it differs from the loaded version."""
        if slot.current is None and slot.line == DEFAULT_LINE:
            self._registry.ensure_base()
        champion = self._registry.current(slot.line)
        if slot.current is not None and champion.name == slot.current.name:
            return
        with self._changed:
            slot.expected = champion.name
            self._changed.notify_all()
        started = time.monotonic()
        loaded = self._load(champion)
        with self._changed:
            before = slot.current.name if slot.current else None
            if slot.wanted:
                slot.current, slot.files, slot.challenger, slot.failed = loaded, champion.files, None, ""
                slot.told.clear()
            self._changed.notify_all()
        logger.info("now serving %s (before: %s); loaded in %.1f s", loaded.name, before, time.monotonic() - started)

    def _load_challenger(self, slot: Slot) -> None:
        """Load the line's challenger if it differs from the loaded one, or let it go. One that can't be loaded costs
        people's comparisons, not their answers.
        """
        found = self._registry.challenger(slot.line)
        name, known = found.name if found else "", slot.challenger.name if slot.challenger else ""
        if name == known or (name and name == slot.failed and time.monotonic() < slot.retry_at):
            return
        loaded = None
        if found is not None:
            try:
                loaded = self._load(found)
            except RankloopError as error:
                slot.retry_at = time.monotonic() + MAX_WAIT_S
                if name != slot.failed:
                    logger.warning("the challenger %s can't be loaded, the champion answers alone: %s", name, error)
        with self._changed:
            slot.failed = name if loaded is None else ""
            if slot.wanted:
                slot.challenger = loaded
                slot.told.clear()
            self._changed.notify_all()
        if loaded is not None or known:
            logger.info(
                "line %s: %s challenges its champion (before: %s)", slot.line, name or "nobody", known or "nobody"
            )

    def _load(self, version: Version) -> LoadedVersion:
        """Load a version, or name the one that another line has loaded from the same files."""
        with self._changed:
            same = [slot.current for slot in self._slots.values() if slot.current and slot.files == version.files]
        if same:
            return same[0].named(version.name)
        folder = self._registry.fetch(version)
        return load_version(version.name, folder, self._settings, lambda: self._base, share=True)

    def _note(self, slot: Slot, fault: str | None, error: Exception | None = None) -> None:
        """Record why a line's champion isn't loaded; a repeated fault is logged only once."""
        if fault is not None and fault != slot.fault:
            stays = slot.current.name if slot.current else "nothing"
            logger.error(
                "the champion of line %s can't be loaded, %s stays: %s", slot.line, stays, fault, exc_info=error
            )
        with self._changed:
            slot.fault = fault if slot.wanted else None
            self._changed.notify_all()
