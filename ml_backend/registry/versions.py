"""Model versions: registered and fetched as a whole, one of each line its champion."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError, SupersededError
from ml_backend.registry.records import DEFAULT_LINE, LINE_NAME, PROMOTED_AT, Version
from ml_backend.registry.session import Session, is_absent, safe_id
from ml_backend.registry.version_files import damage_in, seal
from training.atomic import atomic_folder

_CHAMPION = "champion"  # alias of the version of a line that answers
_HISTORY = "champions"  # tag of a line's registered model: the numbers of all champions, the current one last
_HISTORY_LIMIT = 200
ARTIFACTS = "version"
"""The version's folder among its run's artifacts."""

logger = logging.getLogger(__name__)


class Versions(Session):
    """Operations on versions."""

    def champion(self, line: str = DEFAULT_LINE) -> Version | None:
        """The version of a line that answers, None if there is none. Takes milliseconds."""
        model = self._model(line)
        ask = lambda client: client.get_model_version_by_alias(model, _CHAMPION)  # noqa: E731
        return self._found(f"find the champion of line {line}", line, ask)

    def versions(self, line: str = DEFAULT_LINE) -> list[Version]:
        """All versions of a line, oldest first."""
        with self._asking("list versions") as client:
            found = client.search_model_versions(f"name = '{self._model(line)}'")
        return sorted((self._version(item, line) for item in found), key=lambda version: version.number)

    def get(self, name: str) -> Version:
        """A version by its name, for instance `rankloop-v3`, or `rankloop.summaries-v3` on the line `summaries`.

        Raises:
            RegistryError: there is no such version.
        """
        pattern = rf"{re.escape(self._name)}(?:\.({LINE_NAME.pattern}))?-v([1-9][0-9]{{0,8}})"
        match = re.fullmatch(pattern, name)
        line = (match.group(1) or DEFAULT_LINE) if match else DEFAULT_LINE
        if match:
            model, number = self._model(line), match.group(2)
            found = self._found(f"look up {name}", line, lambda client: client.get_model_version(model, number))
            if found and found.name == name:
                return found
        known = ", ".join(version.name for version in self.versions(line) or self.versions())
        expected = f"one of: {known}" if known else "nothing, as there are no versions yet"
        raise RegistryError("there is no such version", got=name, expected=expected)

    def fetch(self, version: Version) -> Path:
        """A local copy of a version's folder, with every file checked against its registered digest.

        Raises:
            RegistryError: a file in the registry is damaged or missing, or its weights were pruned.
        """
        _refuse_pruned(version)
        target = self.cached(version)
        target.parent.mkdir(exist_ok=True)
        digest = version.tags.get("manifest_sha256")
        if digest is None:
            raise RegistryError(f"{version.name} was not registered by rankloop, so its files can't be checked")
        with self._lock(f"fetch-{version.files}"):
            if not target.is_dir() or damage_in(target, digest) is not None:
                with atomic_folder(target) as fresh:
                    self._download(version, fresh)
                    damage = damage_in(fresh, digest)
                    if damage:
                        raise RegistryError(
                            f"{version.name} can't be used: in the registry {damage}",
                            remedy="A purge of it was interrupted: repeat `rankloop purge`."
                            if version.tags.get("purging")
                            else "Go back to the previous version with `rankloop rollback`, or restore the file.",
                        )
        return target

    def cached(self, version: Version) -> Path:
        """Where the local copy of a version's folder is, or would be."""
        return self._home / "versions" / safe_id(version.files)

    def register(
        self,
        folder: Path,
        *,
        run_id: str,
        parent: str | None,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        line: str = DEFAULT_LINE,
    ) -> Version:
        """Register a folder as a version of a line. A run has one version: registering again returns the same.

        The version exists once all its files are stored; the champion stays the same.
        """
        with self._lock("register"), self._asking(f"register {folder}") as client:
            made = client.search_model_versions(f"name = '{self._model(line)}' and run_id = '{safe_id(run_id)}'")
            if made:
                return self._version(made[0], line)
            recorded = {
                **tags,
                "manifest_sha256": seal(folder),
                "metrics": json.dumps(dict(metrics)),
                "parent": parent or "",
            }
            client.log_artifacts(run_id, str(folder), ARTIFACTS)
            self._ensure_model(client, line)
            return self._create(client, line, run_id, recorded)

    def mend(self, name: str, folder: Path) -> None:
        """Store a version's files again if they are missing or damaged in the registry.

        Args:
            name: the version.
            folder: what it was registered from; if that has changed since, nothing is done.
        """
        version = self.get(name)
        if seal(folder) != version.tags.get("manifest_sha256"):
            return
        try:
            self.fetch(version)
        except RegistryError as error:
            if error.__cause__ is not None:  # MLflow didn't answer, which says nothing about the files
                raise
            logger.warning("%s Storing its files again.", error)
            with self._asking(f"store {name} again") as client:
                client.log_artifacts(version.run_id, str(folder), ARTIFACTS)

    def promote(self, name: str, *, instead_of: str | None = None) -> Version:
        """Make a version the champion of its line, after checking that its files are intact. Idempotent.

        Args:
            name: the version.
            instead_of: the champion that it is to replace; None replaces any.

        Raises:
            RegistryError: there is no such version, or it is damaged.
            SupersededError: the champion is neither this version nor `instead_of`.
        """
        version = self.get(name)
        self.fetch(version)
        with self._lock("champion"):
            self._succeed(version, instead_of=instead_of)
        return self.get(name)

    def champions(self, line: str = DEFAULT_LINE) -> list[str]:
        """The names of all champions of a line since the last rollback, the current one last."""
        return [self._named(line, number) for number in self._champions(line)]

    def rollback(self, line: str = DEFAULT_LINE, *, instead_of: str | None = None) -> Version:
        """Make a line's previous champion its champion again.

        Args:
            line: the line.
            instead_of: the champion that is to go; None takes any.

        Raises:
            RegistryError: there is no previous champion, or it is damaged.
            SupersededError: the champion isn't `instead_of`.
        """
        with self._lock("champion"):
            champions = self._champions(line)
            champion = self._named(line, champions[-1]) if champions else None
            if instead_of is not None and champion != instead_of:
                raise SupersededError(f"the champion is {champion} now, no longer {instead_of}")
            if len(champions) < 2:
                raise RegistryError(
                    "there is no previous champion to go back to", remedy="Choose one with `rankloop promote NAME`."
                )
            before = self.get(self._named(line, champions[-2]))
            self.fetch(before)
            self._crown(line, champions[:-1])
        return self.get(before.name)

    def _succeed(self, version: Version, *, instead_of: str | None) -> None:
        """Make a version champion; see `promote`. The caller holds the lock."""
        champions = self._champions(version.line)
        if champions and champions[-1] == version.number:
            return
        champion = self._named(version.line, champions[-1]) if champions else None
        if instead_of is not None and champion != instead_of:
            raise SupersededError(f"the champion is {champion} now, no longer {instead_of}")
        _refuse_pruned(self.get(version.name))  # which may have happened since it was fetched
        self._crown(version.line, [*champions, version.number])

    def _download(self, version: Version, into: Path) -> None:
        with self._asking(f"download {version.name}") as client:
            copy = Path(client.download_artifacts(version.run_id, ARTIFACTS, str(into)))
        for path in copy.iterdir():
            path.rename(into / path.name)
        copy.rmdir()

    def _ensure_model(self, client: Any, line: str) -> None:
        try:
            client.get_registered_model(self._model(line))
        except Exception as error:
            if not is_absent(error):
                raise
            client.create_registered_model(self._model(line))

    def _create(self, client: Any, line: str, run_id: str, tags: Mapping[str, str]) -> Version:
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
        return self._version(client.create_model_version(self._model(line), source, run_id=run_id, tags=tags), line)

    def _champions(self, line: str) -> list[int]:
        """The numbers of all champions of a line, the current one last. An interrupted promotion is left out."""
        champion = self.champion(line)
        if champion is None:
            return []
        with self._asking("list previous champions") as client:
            past = json.loads(client.get_registered_model(self._model(line)).tags.get(_HISTORY, "[]"))
        if champion.number not in past:
            return [*past, champion.number]
        last = len(past) - past[::-1].index(champion.number)
        return list(past[:last])

    def _crown(self, line: str, champions: Sequence[int]) -> None:
        model, now = self._model(line), datetime.now(UTC).isoformat(timespec="seconds")
        with self._asking(f"make {self._named(line, champions[-1])} champion") as client:
            client.set_model_version_tag(model, str(champions[-1]), PROMOTED_AT, now)
            client.set_registered_model_tag(model, _HISTORY, json.dumps(champions[-_HISTORY_LIMIT:]))
            client.set_registered_model_alias(model, _CHAMPION, str(champions[-1]))

    def _named(self, line: str, number: int) -> str:
        return f"{self._model(line)}-v{number}"

    def _found(self, doing: str, line: str, ask: Callable[[Any], Any]) -> Version | None:
        """The version that `ask` gets from MLflow's client; None if MLflow has no such version."""
        with self._asking(doing) as client:
            try:
                return self._version(ask(client), line)
            except Exception as error:
                if is_absent(error):
                    return None
                raise

    def _version(self, item: Any, line: str) -> Version:
        tags = dict(item.tags)
        return Version(
            number=int(item.version),
            name=self._named(line, int(item.version)),
            line=line,
            run_id=item.run_id,
            parent=tags.get("parent") or None,
            metrics=json.loads(tags.pop("metrics", "{}")),
            tags=tags,
            created_at=item.creation_timestamp / 1000,
        )


def _refuse_pruned(version: Version) -> None:
    if version.pruned_at:
        raise RegistryError(
            f"{version.name} has no weights any more",
            got=f"pruned at {version.pruned_at}; its record and its metrics are kept",
            remedy="Choose another of `rankloop versions`. RANKLOOP_KEEP_VERSIONS says how many are kept.",
        )
