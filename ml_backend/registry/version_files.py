"""A version's folder on disk: sealed with a manifest of digests when created, checked against it when used.

It holds policy/ (weights and tokenizer), reward/ (not in the base), config.json, and any other records.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.config import CycleConfig

MANIFEST = "manifest.json"


def seal(folder: Path) -> str:
    """Write `manifest.json` with the SHA-256 of every other file in `folder`.

    Returns:
        The manifest's own SHA-256, to be stored elsewhere.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    digests = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps({"sha256": digests}, indent=2) + "\n", encoding="utf-8")
    return _sha256(folder / MANIFEST)


def damage_in(folder: Path, manifest_sha256: str) -> str | None:
    """The first missing or damaged file of a sealed folder, in words; None if all are intact. Extra files are fine."""
    fault = _fault(folder, MANIFEST, manifest_sha256)
    if fault:
        return fault
    digests: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    faults = (_fault(folder, name, digest) for name, digest in digests.items())
    return next((fault for fault in faults if fault), None)


def write_base(model: str, config: CycleConfig, folder: Path) -> None:
    """Write the base model's version folder: `model` as it was loaded, and the training settings.

    Raises:
        ModelError: the model or its tokenizer can't be loaded.
    """
    from training.models import (
        TextCodec,
        load_causal_lm,  # imports PyTorch, which is needed only once per registry
    )

    codec = TextCodec.load(model, config.text)
    load_causal_lm(model, "cpu").save_pretrained(folder / "policy", safe_serialization=True)
    codec.tokenizer.save_pretrained(folder / "policy")
    config.save(folder / "config.json")


def model_identity(model: str) -> str:
    """What identifies a base model: a digest of a folder's weights, wherever it is, or a hub name."""
    weights = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    if not weights:
        return model
    digest = hashlib.sha256()
    for path in weights:
        digest.update(_sha256(path).encode())
    return f"sha256:{digest.hexdigest()}"


def _fault(folder: Path, name: str, expected: str) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    return None if _sha256(path) == expected else f"{name} is damaged"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
