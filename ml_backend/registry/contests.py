"""Challengers: versions that people compare with the champion of their line before they may replace it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from ml_backend.errors import RegistryError, SupersededError
from ml_backend.registry.records import CONTEST, DEFAULT_LINE, Fate, Version
from ml_backend.registry.versions import Versions

_CHALLENGER = "challenger"  # alias of the version of a line that people compare with its champion
_CHALLENGES = "challenges"  # tag of a challenger: the champion that it is compared with
_LONGEST_WHY = 2000

logger = logging.getLogger(__name__)


class Contests(Versions):
    """Operations on challengers. A line has one at most, and only as long as its champion is the one it challenges."""

    def challenger(self, line: str = DEFAULT_LINE) -> Version | None:
        """The version of a line that people compare with its champion, None if there is none. Takes milliseconds."""
        found = self._alias(line)
        if found is None:
            return None
        champion = self.champion(line)
        return found if champion is not None and found.tags.get(_CHALLENGES) == champion.name else None

    def challenge(self, name: str, champion: str) -> Version:
        """Let people compare a version with the champion of its line. Idempotent.

        A challenger before it is replaced, and what became of it is recorded with it.

        Raises:
            RegistryError: there is no such version, it is damaged, or it is the champion itself.
            SupersededError: another version is champion.
        """
        version = self.get(name)
        self.fetch(version)
        with self._lock("champion"):
            current = self.champion(version.line)
            if current is None or current.name != champion:
                raise SupersededError(
                    f"the champion is {current.name if current else 'nobody'} now, no longer {champion}"
                )
            if current.name == name:
                raise RegistryError(
                    f"{name} is the champion, so it can't challenge it", remedy="Choose another version."
                )
            before = self._alias(version.line)
            if before is not None and before.name not in (name, champion):
                self._end(before, "replaced", f"{name} passed its gates and challenges {champion} now.")
            tags = {_CHALLENGES: champion, CONTEST: ""}
            with self._asking(f"make {name} challenger") as client:
                for key, value in tags.items():
                    client.set_model_version_tag(self._model(version.line), str(version.number), key, value)
                client.set_registered_model_alias(self._model(version.line), _CHALLENGER, str(version.number))
        logger.info("%s challenges %s", name, champion)
        return self.get(name)

    def promote_challenger(self, name: str, champion: str, why: str) -> Version:
        """Make a challenger champion in place of the champion that it challenges.

        Raises:
            RegistryError: it is damaged.
            SupersededError: it is no longer the challenger, or the champion is another one; nothing is changed.
        """
        version = self.get(name)
        self.fetch(version)
        with self._lock("champion"):
            current = self.champion(version.line)
            if current is None or current.name != name:  # else it is repeated, after an interruption
                self._must_challenge(version, champion)
                self._succeed(version, instead_of=champion)
            self._note_fate(version, "promoted", why, champion)
        return self.get(name)

    def reject_challenger(self, name: str, champion: str, why: str, *, by_hand: bool = False) -> None:
        """End a contest: the champion stays, and the challenger's version keeps why.

        Raises:
            SupersededError: it is no longer the challenger, or the champion is another one; nothing is changed.
        """
        version = self.get(name)
        with self._lock("champion"):
            self._must_challenge(version, champion)
            self._end(version, "ended" if by_hand else "rejected", why)

    def _crown(self, line: str, champions: Sequence[int]) -> None:
        """Whoever becomes champion, by hand or not: a contest with the champion before is over."""
        challenger = self._alias(line)
        super()._crown(line, champions)
        if challenger is not None:
            name = self._named(line, champions[-1])
            fate = "promoted" if challenger.name == name else "ended"
            self._end(challenger, fate, f"{name} was made champion.")

    def _must_challenge(self, version: Version, champion: str) -> None:
        current = self.challenger(version.line)
        if current is None or current.name != version.name:
            raise SupersededError(f"{version.name} is no longer the challenger of line {version.line}")
        if current.tags.get(_CHALLENGES) != champion:
            raise SupersededError(f"{version.name} no longer challenges {champion}")

    def _end(self, challenger: Version, fate: str, why: str) -> None:
        """Take the alias off a challenger and record what became of it."""
        self._note_fate(challenger, fate, why, challenger.tags.get(_CHALLENGES, ""))
        with self._asking(f"end the contest of {challenger.name}") as client:
            client.delete_registered_model_alias(self._model(challenger.line), _CHALLENGER)
        logger.info("the contest of %s is over: %s. %s", challenger.name, fate, why)

    def _note_fate(self, challenger: Version, fate: str, why: str, champion: str) -> None:
        known = Fate(fate, why[:_LONGEST_WHY], champion, datetime.now(UTC).isoformat(timespec="seconds"))
        with self._asking(f"note what became of {challenger.name}") as client:
            model, number = self._model(challenger.line), str(challenger.number)
            client.set_model_version_tag(model, number, CONTEST, known.as_tag())

    def _alias(self, line: str) -> Version | None:
        """The version with the challenger's alias, even if an interrupted promotion left it behind."""
        model = self._model(line)
        ask = lambda client: client.get_model_version_by_alias(model, _CHALLENGER)  # noqa: E731
        return self._found(f"find the challenger of line {line}", line, ask)
