"""What a line's judgements say, as one JSON document a line: written by the worker, read by server and command line."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_backend.errors import RegistryError
from ml_backend.registry.session import Session, run_tag, safe_id

_KIND = "opinions"
_CURRENT = "current"  # tag of the run: the file that counts, and its digest
_SLOTS = ("opinions-a.json", "opinions-b.json")
_REMEMBERED_S = 5.0
_READS = 3  # a file is replaced at most once a minute, so a second read finds it whole


@dataclass(slots=True)
class _Known:
    """A line's document as last read: when, by which tag, and its text."""

    at: float
    current: str
    text: bytes


class Opinions(Session):
    """Operations on opinions.

    A line has one run for them. A new document goes into the file that isn't read at the moment; then the run's tag
    names it, with its digest. So a reader finds the old document or the new one, never half of either.
    """

    _known: dict[str, _Known] | None = None
    _remembering = threading.Lock()

    def store_opinions(self, line: str, opinions: Mapping[str, Any]) -> None:
        """Replace what a line's judgements say. See `ml_backend.loop.opinions` for what a document holds."""
        text = (json.dumps(opinions, indent=1, allow_nan=False) + "\n").encode()
        digest = hashlib.sha256(text).hexdigest()
        with self._lock(f"opinions-{line}"), self._asking(f"store the opinions of line {line}") as client:
            run = self._opinions_run(client, line)
            run_id = run.info.run_id if run else self._new_opinions_run(client, line)
            before = (run.data.tags.get(_CURRENT, "") if run else "").partition(" ")[0]
            name = next(slot for slot in _SLOTS if slot != before)
            with tempfile.TemporaryDirectory(dir=self._home, prefix=".opinions.") as made:
                path = Path(made) / name
                path.write_bytes(text)
                client.log_artifact(run_id, str(path))
            client.log_batch(run_id, tags=[run_tag(_CURRENT, f"{name} {digest}")])
        self._remember(line, f"{name} {digest}", text)

    def opinions(self, line: str) -> dict[str, Any]:
        """What a line's judgements say, as last stored; {} before the first time. At most some seconds old, and cheap.

        Raises:
            RegistryError: MLflow doesn't answer, or the stored document is damaged.
        """
        with self._remembering:
            known = (self._known or {}).get(line)
        is_fresh = known is not None and time.monotonic() - known.at <= _REMEMBERED_S
        text = known.text if known and is_fresh else self._read(line, known)
        found: dict[str, Any] = json.loads(text)
        return found

    def _read(self, line: str, known: _Known | None) -> bytes:
        current, text = "", b"{}"
        with self._asking(f"read the opinions of line {line}") as client:
            for last in reversed(range(_READS)):
                run = self._opinions_run(client, line)
                current = run.data.tags.get(_CURRENT, "") if run else ""
                if known and known.current == current:
                    text = known.text
                    break
                if not current:
                    text = b"{}"
                    break
                name, _, digest = current.partition(" ")
                text = self._downloaded(client, run.info.run_id, name)
                if hashlib.sha256(text).hexdigest() == digest:
                    break
                if not last:
                    raise RegistryError(
                        f"the stored opinions of line {line} are damaged",
                        got=name,
                        remedy="They are computed anew when the next judgement arrives.",
                    )
        self._remember(line, current, text)
        return text

    def _downloaded(self, client: Any, run_id: str, name: str) -> bytes:
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".opinions.") as made:
            return Path(client.download_artifacts(run_id, name, made)).read_bytes()

    def _remember(self, line: str, current: str, text: bytes) -> None:
        with self._remembering:
            self._known = {**(self._known or {}), line: _Known(time.monotonic(), current, text)}

    def _opinions_run(self, client: Any, line: str) -> Any:
        """The run that holds a line's opinions; None if there is none yet."""
        where = f"tags.kind = '{_KIND}' and tags.line = '{safe_id(line)}'"
        found = client.search_runs([self._connected()[1]], where, max_results=1)
        return found[0] if found else None

    def _new_opinions_run(self, client: Any, line: str) -> str:
        made = client.create_run(self._connected()[1], tags={"kind": _KIND, "line": line}, run_name=f"opinions {line}")
        client.set_terminated(made.info.run_id)
        return str(made.info.run_id)
