"""A line in service: what is loaded for it, and what is known of it otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from ml_backend.lines import ProjectSettings
from ml_backend.serving.match import Answerer, Match
from ml_backend.serving.version import LoadedVersion


@dataclass(slots=True, eq=False)
class Slot:
    """A line in service: its loaded champion, if it is in memory, and what is known of it otherwise.

    expected: the champion's name; ends in `-loading` until the registry has named it.
    challenger: the loaded challenger, if the line has one and it loads.
    failed, retry_at: a challenger that didn't load, and when to try it again, on the `time.monotonic` clock.
    files: what the loaded version's files are stored under.
    wanted: whether its champion is to be in memory.
    due: when to look at it next, on the `time.monotonic` clock.
    """

    line: str
    expected: str
    wait_s: float
    current: LoadedVersion | None = None
    challenger: LoadedVersion | None = None
    failed: str = ""
    retry_at: float = 0.0
    files: str = ""
    told: dict[ProjectSettings, Answerer] = field(default_factory=dict)
    fault: str | None = None
    wanted: bool = True
    due: float = float("-inf")

    def answers(self, share: float) -> Answerer | None:
        """What answers for the line now: its champion, together with its challenger if there is one.

        Args:
            share: of the tasks that are asked about both.
        """
        if self.current is None or self.challenger is None:
            return self.current
        return Match(self.current, self.challenger, share)

    def let_go(self) -> None:
        """Free what is loaded, until the line is asked again."""
        self.wanted, self.current, self.challenger, self.fault = False, None, None, None
        self.told.clear()
