"""The lines of versions: opened from the base, listed, paused. Each is a registered model of its own in MLflow."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError
from ml_backend.registry.contests import Contests
from ml_backend.registry.records import DEFAULT_LINE, LINE_NAME, LineState, Version
from ml_backend.registry.session import is_absent
from ml_backend.registry.version_files import is_same_base, model_identity, write_base

_TAKEN_OVER = "taken_over_at"  # tag of the default line's model: when a release with lines first met it, or 0
_PAUSED = "paused_since"  # tag of a line's model
_PAGE = 1000

logger = logging.getLogger(__name__)


class Lines(Contests):
    """Operations on lines."""

    _taken_over: float | None = None

    def ensure_base(self) -> Version:
        """The base model's version, registered on the default line as champion if missing. Safe to call from several
        processes at once.

        Raises:
            ModelError: the base model can't be loaded.
            RegistryError: the existing versions descend from another base model.
        """
        identity = model_identity(self._settings.model)
        with self._lock("base"):
            base = self._base_on(DEFAULT_LINE)
            if base is None:
                base = self._register_base(identity)
            elif not is_same_base(base.tags["base"], base.tags["base_model"], self._settings.model, identity):
                raise RegistryError(
                    "the versions in this registry descend from another base model",
                    got=f"{self._settings.model} with content {identity[:12]}",
                    expected=f"{base.tags['base_model']} with content {base.tags['base'][:12]}",
                    remedy="Restore RANKLOOP_MODEL (or the files in its folder, if they changed), or start afresh "
                    "with another RANKLOOP_MODEL_NAME.",
                )
            self._note_takeover()
            return self.promote(base.name) if self.champion() is None else base

    def base(self, line: str = DEFAULT_LINE) -> Version:
        """A line's version of the base model; the line is opened if there is none. Raises what `ensure_base` raises."""
        found = self._base_on(line)
        if found is None:
            self._open_line(line)
            found = self._base_on(line)
        if found is None:
            raise RegistryError(f"line {line} has no version of the base model", remedy="Use another line.")
        return found

    def current(self, line: str = DEFAULT_LINE) -> Version:
        """A line's champion; the line is opened with the base model's version if it has none.

        Raises:
            ModelError: the base model can't be loaded.
            RegistryError: the existing versions descend from another base model.
        """
        return self.champion(line) or self._open_line(line)

    def lines(self) -> list[str]:
        """All lines, by name. The default line counts if it is all there is, or if anything was trained on it."""
        with self._asking("list lines") as client:
            models = _pages(client, f"name LIKE '{self._name}.%'")
        prefix = f"{self._name}."
        names = [model.name.removeprefix(prefix) for model in models if model.name.startswith(prefix)]
        found = sorted(name for name in names if LINE_NAME.fullmatch(name) and name != DEFAULT_LINE)
        if not found or self.taken_over_at() or len(self.versions(DEFAULT_LINE)) > 1:
            return [DEFAULT_LINE, *found]
        return found

    def line_states(self) -> list[LineState]:
        """All lines with their champions and challengers, by name."""
        return [
            LineState(line, self.champion(line), self.paused_since(line), self.challenger(line))
            for line in self.lines()
        ]

    def taken_over_at(self) -> float:
        """When the data folder was taken over from a release without lines, in seconds since 1970; 0 if never."""
        if self._taken_over is None:
            tags = self._tags(DEFAULT_LINE)
            if _TAKEN_OVER not in tags:  # no base yet, or versions that nobody has taken over until now
                return time.time() if tags else 0.0
            self._taken_over = float(tags[_TAKEN_OVER])
        return self._taken_over

    def pause(self, line: str) -> str:
        """Let a line start no cycle by itself. Returns since when it is paused, as ISO 8601.

        Raises:
            RegistryError: there is no such line.
        """
        self.must_exist(line)
        since = self.paused_since(line) or datetime.now(UTC).isoformat(timespec="seconds")
        with self._asking(f"pause line {line}") as client:
            client.set_registered_model_tag(self._model(line), _PAUSED, since)
        return since

    def resume(self, line: str) -> bool:
        """Undo `pause`. Returns whether the line was paused.

        Raises:
            RegistryError: there is no such line.
        """
        self.must_exist(line)
        if self.paused_since(line) is None:
            return False
        with self._asking(f"resume line {line}") as client:
            client.delete_registered_model_tag(self._model(line), _PAUSED)
        return True

    def paused_since(self, line: str) -> str | None:
        """Since when a line is paused, as ISO 8601; None if it isn't."""
        return self._tags(line).get(_PAUSED) or None

    def only_line(self) -> str:
        """The one line there is.

        Raises:
            RegistryError: there are several; lists them.
        """
        lines = self.lines()
        if len(lines) > 1:
            raise RegistryError("there are several lines", got=", ".join(lines), remedy="Choose one with --line LINE.")
        return lines[0]

    def must_exist(self, line: str) -> None:
        """Do nothing if there is such a line.

        Raises:
            RegistryError: there isn't; lists those there are.
        """
        known = self.lines()
        if line not in known:
            raise RegistryError("there is no such line", got=line, expected=f"one of: {', '.join(known)}")

    def _base_on(self, line: str) -> Version | None:
        return next((version for version in self.versions(line) if version.tags.get("kind") == "base"), None)

    def _open_line(self, line: str) -> Version:
        """Give a line its first version, which shares the base's files, and make it champion."""
        base = self.ensure_base()
        if line == DEFAULT_LINE:
            return base
        with self._lock(f"line-{line}"):
            first = self._base_on(line)
            if first is None:
                logger.info("opening line %s", line)
                first = self._copy(base, line)
            return self.champion(line) or self.promote(first.name)

    def _copy(self, version: Version, line: str) -> Version:
        """Register a version on another line, without storing its files again."""
        tags = {**version.tags, "files": version.files, "metrics": json.dumps(dict(version.metrics)), "parent": ""}
        with self._asking(f"open line {line}") as client:
            self._ensure_model(client, line)
            return self._create(client, line, version.run_id, tags)

    def _register_base(self, identity: str) -> Version:
        model = self._settings.model
        logger.info("registering %s as the first version of %s", model, self._name)
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".base.") as folder:
            facts = {"precision": self._settings.proposal_precision, "base": identity}
            write_base(model, self._settings.cycle_config(), Path(folder), **facts)
            with self._asking("start a run") as client:
                if self._tags(DEFAULT_LINE) == {}:
                    self._ensure_model(client, DEFAULT_LINE)
                    client.set_registered_model_tag(self._name, _TAKEN_OVER, "0")
                run = client.create_run(self._connected()[1], tags={"kind": "base"}, run_name="base")
            tags = {"kind": "base", "base": identity, "base_model": model}
            base = self.register(Path(folder), run_id=run.info.run_id, parent=None, metrics={}, tags=tags)
        with self._asking("finish a run") as client:
            client.set_terminated(run.info.run_id)
        return base

    def _note_takeover(self) -> None:
        if _TAKEN_OVER not in self._tags(DEFAULT_LINE):
            with self._asking("take over the versions from before there were lines") as client:
                client.set_registered_model_tag(self._name, _TAKEN_OVER, str(time.time()))
            logger.info("the versions of %s are now the line %s", self._name, DEFAULT_LINE)

    def _tags(self, line: str) -> dict[str, str]:
        """The tags of a line's registered model; none if there is no such line."""
        with self._asking(f"look up line {line}") as client:
            try:
                return dict(client.get_registered_model(self._model(line)).tags)
            except Exception as error:
                if is_absent(error):
                    return {}
                raise


def _pages(client: Any, where: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_registered_models(where, max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
