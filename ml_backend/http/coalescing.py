"""Many webhooks, few jobs: what is asked for again before it was begun is done once for all who asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_backend.errors import OverloadError
from ml_backend.http.admission import RETRY_AFTER_S

if TYPE_CHECKING:
    from ml_backend.serving.predictions import JobQueue

PATIENCE_S = 0.9
"""How long a webhook waits for its turn: Label Studio gives up after a second."""


@dataclass(eq=False, slots=True)
class _Turn:
    """One doing of an action, and those who wait for it."""

    ended: bool = False
    result: Any = None
    failure: Exception | None = None


class Coalescer:
    """Runs an action per key at a time. Whoever asks while one runs shares the next one, which begins after they asked:
    so what each of them asked for is really done when they are answered, in at most the time of two.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._running: dict[Hashable, float] = {}  # since when
        self._next: dict[Hashable, _Turn] = {}
        self._changed = threading.Condition()

    def run(self, key: Hashable, action: Callable[[], Any]) -> Any:
        """Have the action done once after this moment.

        Returns:
            What it returned, to whoever it was done for.

        Raises:
            OverloadError: its turn didn't come, or didn't end, in time.
            Exception: what the action raised.
        """
        with self._changed:
            if time.monotonic() - self._running.get(key, float("inf")) > self._patience_s:
                raise _late()  # it hangs: waiting as well would only hold another thread
            shared = self._next.get(key)
            if shared is not None:
                self._changed.wait_for(lambda: shared.ended, self._patience_s)
                return _outcome(shared)
            turn = self._next[key] = _Turn()
            began = self._changed.wait_for(lambda: key not in self._running, self._patience_s)
            del self._next[key]
            if not began:
                return self._end(turn)
            self._running[key] = time.monotonic()
        try:
            turn.result = action()
        except Exception as error:
            turn.failure = error
        with self._changed:
            del self._running[key]
            turn.ended = True
            return self._end(turn)

    def _end(self, turn: _Turn) -> Any:
        if not turn.ended:
            turn.ended, turn.failure = True, _late()
        self._changed.notify_all()
        return _outcome(turn)


class CoalescedJobs:
    """A job queue that is asked once for what many webhooks at a time want: a debounced count, proposals, a cycle."""

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs
        self._coalescer = Coalescer()

    def judgement_arrived(self, project_id: int) -> object:
        """See `JobQueue`."""
        return self._coalescer.run(("judgement", project_id), lambda: self._jobs.judgement_arrived(project_id))

    def start_training(self, project_id: int) -> Mapping[str, Any]:
        """See `JobQueue`. Label Studio can send this before each annotation it saves."""
        told: Mapping[str, Any] = self._coalescer.run(
            ("train", project_id), lambda: self._jobs.start_training(project_id)
        )
        return told

    def propose(self, project_id: int) -> object:
        """See `JobQueue`."""
        return self._coalescer.run(("propose", project_id), lambda: self._jobs.propose(project_id))

    def status(self) -> Mapping[str, Any]:
        """See `JobQueue`."""
        return self._jobs.status()


def _outcome(turn: _Turn) -> Any:
    if not turn.ended:
        raise _late()
    if turn.failure is not None:
        raise turn.failure
    return turn.result


def _late() -> OverloadError:
    return OverloadError("the job queue is busy", remedy=f"Ask again in {RETRY_AFTER_S} seconds.")
