"""What a person wants to see of a version: its reports, and the page of its run in MLflow."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ml_backend.registry.records import Version
from ml_backend.registry.version_files import MANIFEST, digest_of
from ml_backend.registry.versions import ARTIFACTS, Versions

_REPORT = "report.json"


class Reports(Versions):
    """Operations on reports. They read only small files, never weights."""

    def report(self, version: Version) -> dict[str, Any]:
        """The reports of a version's trainings, as JSON, under `reward` and `ppo`. The base has none.

        Raises:
            RegistryError: it can't be read.
        """
        if version.tags.get("kind") == "base":
            return {}
        local = self.cached(version)
        if (local / _REPORT).is_file() and digest_of(local / MANIFEST) == version.tags.get("manifest_sha256"):
            return _read(local / _REPORT)
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".report.") as folder:
            with self._asking(f"read the report of {version.name}") as client:
                path = client.download_artifacts(version.run_id, f"{ARTIFACTS}/{_REPORT}", folder)
            return _read(Path(path))

    def run_path(self, version: Version) -> str:
        """Where MLflow's pages show the run that made a version, below the address of the server."""
        return f"#/experiments/{self._connected()[1]}/runs/{version.run_id}"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found
