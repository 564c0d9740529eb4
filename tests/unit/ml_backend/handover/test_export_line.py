"""A line's data as other tools read them: the right fields, in the line's own splits, nothing lost without a word."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from judged_project import JudgedProject
from tiny_models import tiny_rotary
from tiny_tokenizers import tiny_tokenizer

from ml_backend.errors import RegistryError
from ml_backend.handover.data import export_line
from ml_backend.handover.rows import LineData, own_rows, tables
from ml_backend.registry import Registry, write_record
from ml_backend.settings import Settings, load_settings
from training.config import CycleConfig, TextConfig
from training.data import (
    Demonstration,
    Message,
    Preference,
    PromptRecord,
    read_preferences,
    split_of,
    write_preferences,
)
from training.errors import ConfigError, DataError
from training.models import TextCodec

TEA = Preference("What is tea?", "Leaves in hot water.", "No idea.", p_chosen=0.75, votes=4)
TALK = (Message("user", "Tea?"), Message("assistant", "Yes."), Message("user", "With milk?"))
SPLITS = ("train", "selection", "test")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random chat model."""
    folder = tmp_path_factory.mktemp("chat-model")
    tokenizer = tiny_tokenizer("byte-level", "chatml")
    tiny_rotary(vocab_size=len(tokenizer), max_position_embeddings=256, n_layer=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _rows(data: LineData, codec: TextCodec, form: Any, kind: str, *, more: bool = False) -> list[dict[str, Any]]:
    (table,) = [table for table in tables(data, codec, form, more=more) if table.name == kind]
    return [row for rows in table.splits.values() for row in rows]


@pytest.mark.parametrize(
    ("separator", "prompt", "answer"),
    [
        ("\n", "What is tea?\n", "Leaves in hot water."),
        (" TL;DR: ", "What is tea? TL;DR:", " Leaves in hot water."),
        ("", "What is tea?", " Leaves in hot water."),
    ],
)
def test_texts_join_as_the_model_reads_them(tiny_model_dir: Path, separator: str, prompt: str, answer: str) -> None:
    """TRL puts nothing between prompt and answer, so separator and space are in them: just as in training."""
    codec = TextCodec.load(str(tiny_model_dir), TextConfig(separator=separator))
    (row,) = _rows(LineData([TEA]), codec, "standard", "preferences")
    assert (row["prompt"], row["chosen"]) == (prompt, answer)
    ours = [*codec.encode_prompts(["What is tea?"])[0], *codec.encode_answers(["Leaves in hot water."])[0][:-1]]
    assert codec.tokenizer(row["prompt"] + row["chosen"])["input_ids"] == ours


def test_messages_are_those_that_the_model_is_sent(chat_model: Path) -> None:
    """The system prompt is one of them, a text is a user's, and an answer is one message of the assistant's."""
    codec = TextCodec.load(str(chat_model), TextConfig(system_prompt="Be brief."))
    data = LineData([TEA, replace(TEA, prompt=TALK)], [Demonstration("Tea?", " Yes. ")], [PromptRecord(TALK)])
    first, second = sorted(_rows(data, codec, "conversational", "preferences"), key=lambda row: len(row["prompt"]))
    told = {"role": "system", "content": "Be brief."}
    assert first == {
        "prompt": [told, {"role": "user", "content": "What is tea?"}],
        "chosen": [{"role": "assistant", "content": "Leaves in hot water."}],
        "rejected": [{"role": "assistant", "content": "No idea."}],
    }
    assert [message["content"] for message in second["prompt"]] == ["Be brief.", "Tea?", "Yes.", "With milk?"]
    (shown,) = _rows(data, codec, "conversational", "demonstrations")
    assert shown["completion"] == [{"role": "assistant", "content": "Yes."}]
    assert _rows(data, codec, "conversational", "prompts") == [{"prompt": second["prompt"]}]


def test_ties_are_no_preferences_for_a_trainer(tiny_model_dir: Path) -> None:
    """They are left out and counted there, and kept in our own form."""
    codec = TextCodec.load(str(tiny_model_dir))
    data = LineData([TEA, replace(TEA, p_chosen=0.5)])
    (preferences,) = [table for table in tables(data, codec, "standard", more=True) if table.name == "preferences"]
    assert sum(preferences.counts().values()) == preferences.ties == 1
    own = own_rows(data)["preferences"]
    assert [row["p_chosen"] for row in own] == [0.75, 0.5]
    assert {row["split"] for row in own} == {split_of("What is tea?").value}


@pytest.fixture
def project() -> JudgedProject:
    """A judged project on the line `default`, with prompts of all splits."""
    return JudgedProject()


def _loaded(rows: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]


def test_a_line_is_loaded_by_datasets_in_both_forms(
    mlflow_settings: Settings, project: JudgedProject, tmp_path: Path
) -> None:
    """`load_dataset` reads TRL's files by the card's metadata, `load_from_disk` the folder; each prompt is in its
    split, and both have the same pairs, as many as people judged.
    """
    registry = Registry(mlflow_settings)
    registry.current("default")
    done = export_line(mlflow_settings, registry, project.open, "default", tmp_path / "trl", to="trl")
    trl = datasets.load_dataset(str(tmp_path / "trl"), "preferences", cache_dir=str(tmp_path / "cache"))
    export_line(mlflow_settings, registry, project.open, None, tmp_path / "ds", to="datasets")
    saved = datasets.load_from_disk(str(tmp_path / "ds" / "preferences"))
    assert set(saved) == set(SPLITS)
    for split in SPLITS:
        assert {split_of(row["prompt"].strip()).value for row in trl[split]} == {split}
        pairs = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in saved[split]]
        assert _loaded(trl[split]) == pairs
        assert done.counts["preferences"][split] == len(pairs) > 0
    assert trl["train"].column_names == ["prompt", "chosen", "rejected"]
    assert sum(done.counts["preferences"].values()) == 54  # of 60 tasks, every tenth is skipped
    assert all(
        len(row["chosen"].split()) < len(row["rejected"].split()) for row in saved["train"]
    )  # that is their taste
    assert set(saved["train"]["chosen_version"]) == {"rankloop-v1"}
    assert set(saved["train"]["p_chosen"]) == {1.0}
    assert Counter(done.counts["prompts"])["train"] == len(
        datasets.load_from_disk(str(tmp_path / "ds" / "prompts"))["train"]
    )
    assert sum(done.counts["prompts"].values()) == 60
    assert done.counts["demonstrations"] == dict.fromkeys(SPLITS, 0)
    assert not (tmp_path / "ds" / "demonstrations").exists()  # `datasets` can't load a table without rows


def test_a_chat_models_line_is_in_messages(chat_model: Path, mlflow_settings: Settings, tmp_path: Path) -> None:
    """Unless texts are asked for."""
    settings = load_settings(**{**mlflow_settings.model_dump(), "model": str(chat_model)})
    registry = Registry(settings)
    registry.current("default")
    opener = JudgedProject().open
    done = export_line(settings, registry, opener, "default", tmp_path / "chat", to="datasets")
    assert done.form == "conversational form"
    saved = datasets.load_from_disk(str(tmp_path / "chat" / "preferences"))["train"]
    assert [message["role"] for message in saved[0]["prompt"]] == ["user"]
    assert [message["role"] for message in saved[0]["chosen"]] == ["assistant"]
    export_line(settings, registry, opener, "default", tmp_path / "chat", to="trl", form="standard", force=True)
    first = json.loads((tmp_path / "chat" / "preferences" / "train.jsonl").read_text().splitlines()[0])
    assert isinstance(first["chosen"], str)


def test_a_version_gives_what_it_learned_from(
    mlflow_settings: Settings, project: JudgedProject, tmp_path: Path
) -> None:
    """Its own preferences, without Label Studio, even when its weights are gone; the base learned from nothing."""
    registry = Registry(mlflow_settings)
    base = registry.current("default")
    folder = tmp_path / "made"
    (folder / "policy").mkdir(parents=True)
    write_preferences(folder / "preferences.jsonl", [TEA, replace(TEA, prompt="Coffee?")])
    write_record(folder, CycleConfig(text=TextConfig(separator=" Answer: ")))
    run = registry.start_cycle_run(7, "w-1")
    version = registry.register(folder, run_id=run, parent=base.name, metrics={}, tags={"kind": "cycle"})
    registry.register(folder, run_id=registry.start_cycle_run(7, "w-2"), parent=None, metrics={}, tags={})
    assert registry.prune(version.name, 0)
    project.judged = 0
    done = export_line(mlflow_settings, registry, project.open, version.name, tmp_path / "own", to="jsonl")
    read = read_preferences(tmp_path / "own" / "preferences.jsonl")
    assert read == [TEA, replace(TEA, prompt="Coffee?")]
    assert sum(done.counts["prompts"].values()) == 2
    export_line(mlflow_settings, registry, project.open, version.name, tmp_path / "trl", to="trl")
    texts = "".join(path.read_text() for path in (tmp_path / "trl" / "preferences").iterdir())
    assert "Coffee? Answer:" in texts
    with pytest.raises(DataError, match="learned from no judgements"):
        export_line(mlflow_settings, registry, project.open, base.name, tmp_path / "base", to="trl")
    assert not (tmp_path / "base").exists()


def test_what_cannot_be_exported_is_said(mlflow_settings: Settings, project: JudgedProject, tmp_path: Path) -> None:
    """A name that is neither, a line without a project, a folder that isn't empty."""
    registry = Registry(mlflow_settings)
    registry.current("default")
    with pytest.raises(RegistryError, match=r"no such line or version.*'nothing'.*lines default"):
        export_line(mlflow_settings, registry, project.open, "nothing", tmp_path / "out", to="trl")
    project.extra_params = {"line": "another"}
    with pytest.raises(DataError, match="no connected project is on this line"):
        export_line(mlflow_settings, registry, project.open, "default", tmp_path / "out", to="trl")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    with pytest.raises(ConfigError, match=r"isn't empty"):
        export_line(mlflow_settings, registry, project.open, "default", tmp_path / "full", to="trl")
    assert not (tmp_path / "out").exists()
