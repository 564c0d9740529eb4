"""A version's folder on disk: sealed with a manifest of digests when created, checked against it when used.

It holds policy/ (weights and tokenizer), reward/ (not in the base), config.json (training settings), version.json (how
it is loaded, whatever the environment says later), and any other records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.config import CycleConfig, SamplingConfig, TextConfig, is_gguf
from training.errors import ModelError, first_line

MANIFEST = "manifest.json"
RECORD = "version.json"


class VersionRecord(BaseModel):
    """How a version reads and writes, as it was trained.

    text: template, system prompt, separator and limits.
    chat_template_sha256: a digest of the chat template that its prompts go through, None without one.
    sampling: how its answers were sampled in training; `max_new_tokens` is the length it was trained at.
    precision: the number format of its proposals.
    base: a digest of the base model's weights.
    base_model: where the base came from.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    text: TextConfig
    chat_template_sha256: str | None = None
    sampling: SamplingConfig
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    base: str = ""
    base_model: str = ""


def write_record(folder: Path, config: CycleConfig, **facts: Any) -> None:
    """Write a version's record beside its policy.

    Args:
        folder: the version's folder, with its policy.
        config: the settings it was trained with.
        facts: `precision`, `base` and `base_model`.
    """
    template = chat_template_in(folder / "policy") if config.text.chat_template == "auto" else None
    record = VersionRecord(
        text=config.text,
        sampling=config.sampling,
        chat_template_sha256=None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        **facts,
    )
    (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path, otherwise: Callable[[], CycleConfig]) -> VersionRecord:
    """A version's record. A version from before there were records has its training settings, and no chat template.

    Args:
        folder: the version's folder.
        otherwise: gives the settings for a version that doesn't say any.

    Raises:
        ModelError: the record can't be read, or names another chat template than the one in the folder.
    """
    try:
        if not (folder / RECORD).is_file():
            return _record_of_old(folder, otherwise)
        record = VersionRecord.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            "a version's settings can't be read",
            got=str(folder),
            expected=f"{RECORD} as this release writes it",
            remedy=f"Restore the file, or use the release that wrote it. ({first_line(error)})",
        ) from error
    template = chat_template_in(folder / "policy")
    if record.chat_template_sha256 and (
        template is None or hashlib.sha256(template.encode()).hexdigest() != record.chat_template_sha256
    ):
        raise ModelError(
            "a version's chat template isn't the one it was trained with",
            got=str(folder / "policy"),
            remedy="Restore chat_template.jinja.",
        )
    return record


def chat_template_in(policy: Path) -> str | None:
    """The chat template in a model folder as a tokenizer saves it; None if there is none."""
    file = policy / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        found = json.loads((policy / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return None if not found else found if isinstance(found, str) else json.dumps(found, sort_keys=True)


def seal(folder: Path) -> str:
    """Write `manifest.json` with the SHA-256 of every other file in `folder`.

    Returns:
        The manifest's own SHA-256, to be stored elsewhere.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    digests = {path.relative_to(folder).as_posix(): digest_of(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps({"sha256": digests}, indent=2) + "\n", encoding="utf-8")
    return digest_of(folder / MANIFEST)


def damage_in(folder: Path, manifest_sha256: str) -> str | None:
    """The first missing or damaged file of a sealed folder, in words; None if all are intact. Extra files are fine."""
    fault = _fault(folder, MANIFEST, manifest_sha256)
    if fault:
        return fault
    digests: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    faults = (_fault(folder, name, digest) for name, digest in digests.items())
    return next((fault for fault in faults if fault), None)


def write_base(model: str, config: CycleConfig, folder: Path, **facts: Any) -> None:
    """Write the base model's version folder: `model` as it was loaded, its training settings, a record with `facts`.

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
    write_record(folder, config, base_model=model, **facts)


def model_identity(model: str) -> str:
    """What identifies a base model: a digest of its weights, in a folder, in a .gguf file, or as the hub has them now.

    A hub name stands for itself where its weights are neither on this machine nor to be had.
    """
    path = Path(model).expanduser()
    if is_gguf(model) and path.is_file():
        weights = [path]
    else:
        weights = sorted(path.glob("*.safetensors")) if path.is_dir() else _hub_weights(model)
    if not weights:
        return model
    digest = hashlib.sha256()
    for file in weights:
        digest.update(digest_of(file).encode())
    return f"sha256:{digest.hexdigest()}"


def is_same_base(recorded: str, recorded_model: str, model: str, identity: str) -> bool:
    """Whether a model is the base that versions were recorded with; older records have only a hub name."""
    if recorded.startswith("sha256:"):
        return recorded == identity
    return recorded in (identity, model) and recorded_model == model


def _fault(folder: Path, name: str, expected: str) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    return None if digest_of(path) == expected else f"{name} is damaged"


def digest_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_of_old(folder: Path, otherwise: Callable[[], CycleConfig]) -> VersionRecord:
    path = folder / "config.json"
    raw = json.loads(path.read_bytes()) if path.is_file() else None
    config = otherwise() if raw is None else CycleConfig.model_validate(raw)
    said = "chat_template" in raw.get("text", {}) if raw else False
    text = config.text if said else config.text.model_copy(update={"chat_template": "off", "system_prompt": None})
    return VersionRecord(text=text, sampling=config.sampling)


def _hub_weights(model: str) -> list[Path]:
    """The files of weights that loading a model from the hub would read; none if they can't be had."""
    from huggingface_hub import hf_hub_download

    try:
        try:
            index = json.loads(Path(hf_hub_download(model, "model.safetensors.index.json")).read_bytes())
            names = sorted(set(index["weight_map"].values()))
        except OSError:  # most models are one file
            names = ["model.safetensors"]
        return [Path(hf_hub_download(model, name)) for name in names]
    except (OSError, ValueError):  # a bad name, no network: loading the model says which
        return []
