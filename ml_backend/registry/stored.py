"""Stored files of versions and runs: deleted when they are pruned, replaced when a text is purged from them."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError
from ml_backend.registry.lines import Lines
from ml_backend.registry.records import Attempt, Version
from ml_backend.registry.runs import Runs, attempt_from
from ml_backend.registry.session import artifacts_of, safe_id
from ml_backend.registry.version_files import MANIFEST, digest_of
from ml_backend.registry.versions import ARTIFACTS

_WEIGHTS = ("policy", "reward")
_PRUNED = "pruned_at"
_PURGING = "purging"  # tag of a version whose stored files are being replaced: the digests that they will have
_TEXTS = (".json", ".jsonl", ".csv", ".txt", ".md")
_LARGEST_TEXT = 2**28

logger = logging.getLogger(__name__)

Edit = Callable[[str, bytes], bytes]
"""Returns what a file with this name and content is to hold from now on."""


class Stored(Lines, Runs):
    """Operations on what is stored of versions and runs."""

    def protected(self, line: str, rollbacks: int) -> set[str]:
        """The versions of a line that are needed: the champion, those before it, the challenger, the parents of these,
        the newest one, the base, and what running cycles work with.

        Args:
            line: the line.
            rollbacks: how many champions before the current one count.
        """
        versions = {version.name: version for version in self.versions(line)}
        needed = [self._named(line, number) for number in self._champions(line)[-rollbacks - 1 :]]
        challenger = self.challenger(line)
        needed += [challenger.name] if challenger else []
        needed += [max(versions, key=lambda name: versions[name].number)] if versions else []
        needed += [name for name, version in versions.items() if version.tags.get("kind") == "base"]
        running = [attempt.tags for attempt in self.attempts(line) if attempt.status == "running"]
        needed += [tags.get(role, "") for tags in running for role in ("parent", "version")]
        needed += [versions[name].parent or "" for name in needed if name in versions]
        return set(needed) & set(versions)

    def prune(self, name: str, rollbacks: int) -> bool:
        """Delete a version's weights; its record, its metrics and its small files stay. Idempotent.

        Returns:
            Whether it is pruned; not if it has become needed in the meantime.
        """
        version = self.get(name)
        with self._lock("champion"):
            if name in self.protected(version.line, rollbacks) or self._shares_files(version):
                return False
            if not version.pruned_at:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                with self._asking(f"note that {name} is pruned") as client:
                    client.set_model_version_tag(self._model(version.line), str(version.number), _PRUNED, since)
        with self._lock(f"fetch-{version.files}"):
            shutil.rmtree(self.cached(version), ignore_errors=True)
            with self._asking(f"delete the weights of {name}") as client:
                store = artifacts_of(client.get_run(version.run_id), self._settings.tracking_uri())
                there = {item.path for item in store.list_artifacts(ARTIFACTS)}
                for folder in _WEIGHTS:
                    if f"{ARTIFACTS}/{folder}" in there:
                        store.delete_artifacts(f"{ARTIFACTS}/{folder}")
        return True

    def read(self, version: Version, name: str) -> bytes | None:
        """One of a version's small files, which are kept when its weights are pruned; None if it has no such file."""
        wanted = f"{ARTIFACTS}/{name}"
        folder = tempfile.TemporaryDirectory(dir=self._home, prefix=".read.")
        with folder as made, self._asking(f"read {name} of {version.name}") as client:
            if wanted not in {item.path for item in client.list_artifacts(version.run_id, ARTIFACTS)}:
                return None
            return Path(client.download_artifacts(version.run_id, wanted, made)).read_bytes()

    def cycle_runs(self) -> list[tuple[str, Attempt]]:
        """Every training cycle there is a record of, each with the id of its run."""
        found: list[tuple[str, Attempt]] = []
        token = None
        with self._asking("list all cycles") as client:
            while True:
                page = client.search_runs([self._connected()[1]], "tags.kind = 'cycle'", page_token=token)
                found += [(str(run.info.run_id), attempt_from(run)) for run in page]
                token = page.token
                if not token:
                    return found

    def attempt_of(self, workflow_id: str) -> Attempt | None:
        """A training cycle as recorded in its run; None if there is no record."""
        where = f"tags.workflow_id = '{safe_id(workflow_id)}'"
        with self._asking("find a run") as client:
            found = client.search_runs([self._connected()[1]], where, max_results=1)
        return attempt_from(found[0]) if found else None

    def edit_version(self, name: str, edit: Edit, *, dry_run: bool = False) -> list[str]:
        """Change texts in a version's stored files and its local copy, and seal it anew, so that it still verifies.

        If it is interrupted, the version can't be fetched until it was repeated.

        Args:
            name: the version.
            edit: see `Edit`.
            dry_run: only find out which files would change.

        Returns:
            The files that changed.

        Raises:
            RegistryError: a file that isn't being changed is damaged.
        """
        version = self.get(name)
        with self._lock(f"fetch-{version.files}"), tempfile.TemporaryDirectory(dir=self._home, prefix=".edit.") as made:
            return self._edit_version(version, edit, Path(made), dry_run)

    def edit_run(self, run_id: str, edit: Edit, *, dry_run: bool = False) -> list[str]:
        """Change texts in the files stored with a run, other than a version's. Returns the files that changed."""
        folder = tempfile.TemporaryDirectory(dir=self._home, prefix=".edit.")
        with folder as made, self._asking("look through a run") as client:
            names = [name for name in _files(client, run_id, None) if not name.startswith(f"{ARTIFACTS}/")]
            changed = self._edited(client, run_id, names, edit, Path(made))
            if not dry_run:
                for name, path in changed.items():
                    client.log_artifact(run_id, str(path), str(Path(name).parent) if "/" in name else None)
        return sorted(changed)

    def _edit_version(self, version: Version, edit: Edit, made: Path, dry_run: bool) -> list[str]:
        number, model = str(version.number), self._model(version.line)
        with self._asking(f"edit {version.name}") as client:
            stored = _files(client, version.run_id, ARTIFACTS)
            sealed = f"{ARTIFACTS}/{MANIFEST}"
            if sealed not in stored:
                return []
            before = Path(client.download_artifacts(version.run_id, sealed, str(made)))
            pending: dict[str, str] = json.loads(version.tags.get(_PURGING) or "{}")
            if digest_of(before) not in (version.tags.get("manifest_sha256"), pending.get(MANIFEST)):
                raise RegistryError(f"{version.name} can't be changed: its {MANIFEST} is damaged")
            digests: dict[str, str] = json.loads(before.read_bytes())["sha256"]
            names = [name for name in stored if name != sealed]
            changed = self._edited(client, version.run_id, names, edit, made, {**digests}, pending)
            if dry_run or not (changed or pending):
                return sorted(changed)
            new = {name.removeprefix(f"{ARTIFACTS}/"): digest_of(path) for name, path in changed.items()}
            after = {**digests, **{n: d for n, d in pending.items() if n in digests}, **new}
            manifest = made / "new" / MANIFEST
            manifest.parent.mkdir(exist_ok=True)
            manifest.write_text(json.dumps({"sha256": after}, indent=2) + "\n", encoding="utf-8")
            planned = {**pending, **new, MANIFEST: digest_of(manifest)}
            client.set_model_version_tag(model, number, _PURGING, json.dumps(planned))
            for name, path in changed.items():
                client.log_artifact(version.run_id, str(path), str(Path(name).parent))
            client.log_artifact(version.run_id, str(manifest), ARTIFACTS)
            for each in self._sharing(version):
                tags = {"manifest_sha256": planned[MANIFEST], _PURGING: ""}
                for key, value in tags.items():
                    client.set_model_version_tag(self._model(each.line), str(each.number), key, value)
        shutil.rmtree(self.cached(version), ignore_errors=True)  # it is fetched again when it is needed
        return sorted(changed)

    def _edited(
        self,
        client: Any,
        run_id: str,
        names: list[str],
        edit: Edit,
        made: Path,
        digests: Mapping[str, str] | None = None,
        pending: Mapping[str, str] | None = None,
    ) -> dict[str, Path]:
        """The files that `edit` changes, by name, each with its new content in a file."""
        changed: dict[str, Path] = {}
        for name in names:
            if not name.endswith(_TEXTS) or "/policy/" in name:  # a tokenizer's vocabulary isn't what people wrote
                continue
            path = Path(client.download_artifacts(run_id, name, str(made)))
            short = name.removeprefix(f"{ARTIFACTS}/")
            if digests is not None and short in digests:
                expected = (digests[short], (pending or {}).get(short))
                if digest_of(path) not in expected:
                    raise RegistryError(f"a stored version can't be changed: its {short} is damaged", got=run_id)
            if path.stat().st_size > _LARGEST_TEXT:
                logger.warning("%s of run %s is too large to be looked through", name, run_id)
                continue
            content = path.read_bytes()
            new = edit(name, content)
            if new != content:
                path.write_bytes(new)
                changed[name] = path
        return changed

    def _sharing(self, version: Version) -> list[Version]:
        lines = {version.line, *self.lines()}
        return [each for line in lines for each in self.versions(line) if each.files == version.files]

    def _shares_files(self, version: Version) -> bool:
        return any(each.name != version.name for each in self._sharing(version))


def _files(client: Any, run_id: str, under: str | None) -> list[str]:
    found: list[str] = []
    for item in client.list_artifacts(run_id, under):
        found += _files(client, run_id, item.path) if item.is_dir else [str(item.path)]
    return found
