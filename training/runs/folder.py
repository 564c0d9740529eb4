"""The folder of one training run: a single writer, resumed if unfinished, left alone if finished."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from training.atomic import one_writer, write_atomically
from training.errors import CheckpointError

RUN_FILE = "run.json"


@contextmanager
def open_run(out: Path, stage: str, inputs: Mapping[str, object]) -> Iterator[bool]:
    """Lock `out` for one run; when the block succeeds, mark the run finished and delete its checkpoints.

    Args:
        out: the run's folder, created if missing.
        stage: the stage to run, for instance `reward`.
        inputs: everything that determines the result, by name: paths of files and folders (their content counts),
            model names, settings.

    Yields:
        Whether the same run has already finished, so that nothing is left to do.

    Raises:
        ConfigError: another process is writing to `out`.
        CheckpointError: `out` holds a run of another stage or with other inputs.
    """
    with one_writer(out):
        digests = {name: digest_of(value) for name, value in inputs.items()}
        _check_same(out, stage, digests)
        finished = is_finished(out)
        if not finished:
            _save(out, stage, digests, finished=False)
        yield finished
        if not finished:
            _save(out, stage, digests, finished=True)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)


def digest_of(value: object) -> str:
    """A fingerprint of an input: of the content if the value names a file or folder, else of the value."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(value, BaseModel):
        digest.update(value.model_dump_json().encode())
    elif isinstance(value, str | Path) and str(value) and Path(value).exists():
        path = Path(value)
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        for file in files:
            if not file.name.startswith("."):
                digest.update(f"{file.relative_to(path)}\n".encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "blake2b").digest())
    else:
        digest.update(repr(value).encode())
    return digest.hexdigest()


def is_finished(out: Path) -> bool:
    """Whether the run in a folder has finished; False if there is none."""
    return bool(_read(out).get("finished"))


def read_report(out: Path) -> dict[str, Any]:
    """The `report.json` of a finished run."""
    report: dict[str, Any] = json.loads((out / "report.json").read_bytes())
    return report


def _check_same(out: Path, stage: str, digests: Mapping[str, str]) -> None:
    found = _read(out)
    if not found.get("finished") and not any((out / "checkpoints").glob("*")):
        return  # nothing was trained yet, for instance because an input could not be read
    known = found.get("inputs", {})
    differing = [name for name in digests if known.get(name) != digests[name]]
    if found.get("stage") != stage or differing:
        raise CheckpointError(
            f"{out} holds another run",
            got=f"{found.get('stage')} with other {', '.join(differing) or 'inputs'}",
            expected=f"{stage} with the same inputs as now",
            remedy="Write to another folder, or delete this one to start afresh.",
        )


def _read(out: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(
            f"{RUN_FILE} can't be read", got=str(out / RUN_FILE), remedy="Delete this folder to start afresh."
        ) from error
    return found


def _save(out: Path, stage: str, digests: Mapping[str, str], *, finished: bool) -> None:
    content = {"stage": stage, "finished": finished, "inputs": dict(digests)}
    write_atomically(out / RUN_FILE, json.dumps(content, indent=2) + "\n")
