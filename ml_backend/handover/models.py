"""A version's policy as a folder that Transformers loads, with a model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.handover.card import Facts, model_card
from ml_backend.handover.hub import Hub
from ml_backend.handover.target import new_folder
from ml_backend.registry import Registry, Version, VersionRecord, read_record
from ml_backend.settings import Settings
from training.config import TRAINING_CONFIG_FILE

if TYPE_CHECKING:
    from training.models import TextCodec

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Handed:
    """What was handed over: the version, where it is now, and the size of its files in bytes."""

    version: str
    place: str
    size: int


def download(settings: Settings, registry: Registry, name: str, out: Path, *, force: bool = False) -> Handed:
    """Write a version as a model folder.

    Args:
        settings: where the data folder is.
        registry: knows the version.
        name: the version's name.
        out: the new folder.
        force: whether a folder that isn't empty is replaced.

    Raises:
        RegistryError: there is no such version, its weights were pruned, or they are damaged.
        ConfigError: the folder isn't empty, or can't be written.
    """
    version = registry.get(name)
    with new_folder(out, force=force, keep=settings.home()) as fresh:
        size = _write(settings, registry, version, fresh)
    return Handed(version.name, str(out), size)


def push(settings: Settings, registry: Registry, name: str, repository: str, hub: Hub, *, private: bool) -> Handed:
    """Upload what `download` writes to a repository on the Hugging Face hub, as one commit.

    Raises:
        RegistryError: as `download` does.
        HubError: nobody is logged in, or the hub refuses.
    """
    version = registry.get(name)
    hub.check(repository)
    with tempfile.TemporaryDirectory(dir=settings.home(), prefix=".push.") as made:
        size = _write(settings, registry, version, Path(made))
        address = hub.upload(Path(made), repository, private=private, message=f"{version.name}, by rankloop")
    return Handed(version.name, address, size)


def _write(settings: Settings, registry: Registry, version: Version, out: Path) -> int:
    """Write the folder. Returns how many bytes it has."""
    from training.models import TextCodec  # imports PyTorch

    folder = registry.fetch(version)
    record = read_record(folder, settings.cycle_config)
    policy = folder / "policy"
    codec = TextCodec.load(str(policy), record.text)
    shutil.copytree(policy, out, dirs_exist_ok=True)
    _write_template(codec, out)
    _write_generation(codec, record, out)
    own = {"text": record.text.model_dump(mode="json"), "sampling": record.sampling.model_dump(mode="json")}
    (out / TRAINING_CONFIG_FILE).write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
    facts = Facts(
        version=version,
        record=record,
        chat=codec.chat is not None,
        dated=codec.chat is not None and codec.chat.dated != codec.chat.source,
        reports=_json_in(folder / "report.json"),
        counts=_json_in(folder / "summary.json"),
        opinions=registry.opinions(version.line),
    )
    (out / CARD).write_text(model_card(facts), encoding="utf-8")
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def _write_template(codec: TextCodec, out: Path) -> None:
    """Let the tokenizer have the chat template that the version is prompted through, or none if it isn't."""
    used = None if codec.chat is None else codec.chat.dated
    if codec.tokenizer.chat_template != used:
        (out / "chat_template.jinja").unlink(missing_ok=True)
        codec.tokenizer.chat_template = used
        codec.tokenizer.save_pretrained(out)


def _write_generation(codec: TextCodec, record: VersionRecord, out: Path) -> None:
    """Let `generate` sample as the version does, end where it does, and never draw the padding token, as it doesn't."""
    from transformers import GenerationConfig

    sampling = record.sampling
    never = {} if codec.pad_id in codec.end_ids else {"suppress_tokens": [codec.pad_id]}
    GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=list(codec.end_ids),
        pad_token_id=codec.pad_id,
        bos_token_id=codec.tokenizer.bos_token_id,
        **never,
    ).save_pretrained(out)


def _json_in(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
