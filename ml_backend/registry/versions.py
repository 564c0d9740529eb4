"""Model versions: registered and fetched as a whole, one of them the champion."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError
from ml_backend.registry.records import Version
from ml_backend.registry.session import Session, is_absent, safe_id
from ml_backend.registry.version_files import damage_in, is_same_base, model_identity, seal, write_base
from training.atomic import atomic_folder

_CHAMPION = "champion"  # alias of the version that answers
_HISTORY = "champions"  # tag of the registered model: the numbers of all champions, the current one last
_HISTORY_LIMIT = 200
_ARTIFACTS = "version"  # the version's folder among its run's artifacts

logger = logging.getLogger(__name__)


class Versions(Session):
    """Operations on versions."""

    def ensure_base(self) -> Version:
        """The base model's version, registered as champion if missing. Safe to call from several processes at once.

        Raises:
            ModelError: the base model can't be loaded.
            RegistryError: the existing versions descend from another base model.
        """
        identity = model_identity(self._settings.model)
        with self._lock("base"):
            base = next((version for version in self.versions() if version.tags.get("kind") == "base"), None)
            if base is None:
                base = self._register_base(identity)
            elif not is_same_base(base.tags["base"], base.tags["base_model"], self._settings.model, identity):
                raise RegistryError(
                    "the versions in this registry descend from another base model",
                    got=f"{self._settings.model} with content {identity[:12]}",
                    expected=f"{base.tags['base_model']} with content {base.tags['base'][:12]}",
                    remedy="Restore RANKLOOP_MODEL (or the files in its folder, if they changed), or start a new line "
                    "with another RANKLOOP_MODEL_NAME.",
                )
            return self.promote(base.name) if self.champion() is None else base

    def champion(self) -> Version | None:
        """The version that answers, None if there is none. Takes milliseconds."""
        return self._found("find the champion", lambda client: client.get_model_version_by_alias(self._name, _CHAMPION))

    def current(self) -> Version:
        """The champion, else the base model's version, which is registered if missing.

        Raises:
            ModelError: the base model can't be loaded.
            RegistryError: the existing versions descend from another base model.
        """
        return self.champion() or self.ensure_base()

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with self._asking("list versions") as client:
            found = client.search_model_versions(f"name = '{self._name}'")
        return sorted(map(self._version, found), key=lambda version: version.number)

    def get(self, name: str) -> Version:
        """A version by its name, for instance `rankloop-v3`.

        Raises:
            RegistryError: there is no such version.
        """
        match = re.fullmatch(rf"{re.escape(self._name)}-v([1-9][0-9]{{0,8}})", name)
        if match:
            number = match.group(1)
            found = self._found(f"look up {name}", lambda client: client.get_model_version(self._name, number))
            if found:
                return found
        known = ", ".join(version.name for version in self.versions())
        expected = f"one of: {known}" if known else "nothing, as there are no versions yet"
        raise RegistryError("there is no such version", got=name, expected=expected)

    def fetch(self, version: Version) -> Path:
        """A local copy of a version's folder, with every file checked against its registered digest.

        Raises:
            RegistryError: a file in the registry is damaged or missing.
        """
        target = self._home / "versions" / safe_id(version.name)
        target.parent.mkdir(exist_ok=True)
        digest = version.tags.get("manifest_sha256")
        if digest is None:
            raise RegistryError(f"{version.name} was not registered by rankloop, so its files can't be checked")
        with self._lock(f"fetch-{version.name}"):
            if not target.is_dir() or damage_in(target, digest) is not None:
                with atomic_folder(target) as fresh:
                    self._download(version, fresh)
                    damage = damage_in(fresh, digest)
                    if damage:
                        raise RegistryError(
                            f"{version.name} can't be used: in the registry {damage}",
                            remedy="Go back to the previous version with `rankloop rollback`, or restore the file.",
                        )
        return target

    def register(
        self,
        folder: Path,
        *,
        run_id: str,
        parent: str | None,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> Version:
        """Register a folder as a version. A run has one version: registering again returns the same.

        The version exists once all its files are stored; the champion stays the same.
        """
        with self._lock("register"), self._asking(f"register {folder}") as client:
            made = client.search_model_versions(f"name = '{self._name}' and run_id = '{safe_id(run_id)}'")
            if made:
                return self._version(made[0])
            recorded = {
                **tags,
                "manifest_sha256": seal(folder),
                "metrics": json.dumps(dict(metrics)),
                "parent": parent or "",
            }
            client.log_artifacts(run_id, str(folder), _ARTIFACTS)
            self._ensure_model(client)
            source = f"{client.get_run(run_id).info.artifact_uri}/{_ARTIFACTS}"
            return self._version(client.create_model_version(self._name, source, run_id=run_id, tags=recorded))

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
                client.log_artifacts(version.run_id, str(folder), _ARTIFACTS)

    def promote(self, name: str) -> Version:
        """Make a version the champion, after checking that its files are intact. Idempotent.

        Raises:
            RegistryError: there is no such version, or it is damaged.
        """
        version = self.get(name)
        self.fetch(version)
        with self._lock("champion"):
            champions = self._champions()
            if not champions or champions[-1] != version.number:
                self._crown([*champions, version.number])
        return version

    def rollback(self) -> Version:
        """Make the previous champion the champion again.

        Raises:
            RegistryError: there is no previous champion, or it is damaged.
        """
        with self._lock("champion"):
            champions = self._champions()
            if len(champions) < 2:
                raise RegistryError(
                    "there is no previous champion to go back to", remedy="Choose one with `rankloop promote NAME`."
                )
            before = self.get(self._named(champions[-2]))
            self.fetch(before)
            self._crown(champions[:-1])
        return before

    def _register_base(self, identity: str) -> Version:
        model = self._settings.model
        logger.info("registering %s as the first version of %s", model, self._name)
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".base.") as folder:
            facts = {"precision": self._settings.proposal_precision, "base": identity}
            write_base(model, self._settings.cycle_config(), Path(folder), **facts)
            with self._asking("start a run") as client:
                run = client.create_run(self._connected()[1], tags={"kind": "base"}, run_name="base")
            tags = {"kind": "base", "base": identity, "base_model": model}
            base = self.register(Path(folder), run_id=run.info.run_id, parent=None, metrics={}, tags=tags)
        with self._asking("finish a run") as client:
            client.set_terminated(run.info.run_id)
        return base

    def _download(self, version: Version, into: Path) -> None:
        with self._asking(f"download {version.name}") as client:
            copy = Path(client.download_artifacts(version.run_id, _ARTIFACTS, str(into)))
        for path in copy.iterdir():
            path.rename(into / path.name)
        copy.rmdir()

    def _ensure_model(self, client: Any) -> None:
        try:
            client.get_registered_model(self._name)
        except Exception as error:
            if not is_absent(error):
                raise
            client.create_registered_model(self._name)

    def _champions(self) -> list[int]:
        """The numbers of all champions, the current one last. An interrupted promotion is left out."""
        champion = self.champion()
        if champion is None:
            return []
        with self._asking("list previous champions") as client:
            past = json.loads(client.get_registered_model(self._name).tags.get(_HISTORY, "[]"))
        if champion.number not in past:
            return [*past, champion.number]
        last = len(past) - past[::-1].index(champion.number)
        return list(past[:last])

    def _crown(self, champions: Sequence[int]) -> None:
        with self._asking(f"make {self._named(champions[-1])} champion") as client:
            client.set_registered_model_tag(self._name, _HISTORY, json.dumps(champions[-_HISTORY_LIMIT:]))
            client.set_registered_model_alias(self._name, _CHAMPION, str(champions[-1]))

    def _named(self, number: int) -> str:
        return f"{self._name}-v{number}"

    def _found(self, doing: str, ask: Callable[[Any], Any]) -> Version | None:
        """The version that `ask` gets from MLflow's client; None if MLflow has no such version."""
        with self._asking(doing) as client:
            try:
                return self._version(ask(client))
            except Exception as error:
                if is_absent(error):
                    return None
                raise

    def _version(self, item: Any) -> Version:
        tags = dict(item.tags)
        return Version(
            number=int(item.version),
            name=self._named(int(item.version)),
            run_id=item.run_id,
            parent=tags.get("parent") or None,
            metrics=json.loads(tags.pop("metrics", "{}")),
            tags=tags,
            created_at=item.creation_timestamp / 1000,
        )
