"""What a version carries: how it reads and samples, whatever the environment says later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_tokenizers import tiny_tokenizer

from ml_backend.registry.version_files import (
    RECORD,
    is_same_base,
    model_identity,
    read_record,
    write_base,
    write_record,
)
from ml_backend.serving.version import load_version
from ml_backend.settings import load_settings
from training.config import CycleConfig
from training.errors import ConfigError, ModelError

CONFIG = CycleConfig.model_validate(
    {"sampling": {"temperature": 0.6, "max_new_tokens": 9}, "text": {"separator": ": "}}
)


def _no_settings() -> CycleConfig:
    raise AssertionError("the version says everything itself")


def test_a_version_is_loaded_by_what_it_carries(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Separator, temperature and length are those it was written with; only what the environment sets replaces them."""
    write_base(str(tiny_model_dir), CONFIG, tmp_path, precision="float32", base="sha256:abc")
    record = read_record(tmp_path, _no_settings)
    assert (record.base, record.base_model, record.precision) == ("sha256:abc", str(tiny_model_dir), "float32")
    settings = load_settings(model=str(tiny_model_dir), device="cpu", data_dir=tmp_path)
    loaded = load_version("v1", tmp_path, settings)
    assert (loaded.sampling, loaded.codec.config.separator) == (CONFIG.sampling, ": ")
    cooler = load_settings(model=str(tiny_model_dir), device="cpu", data_dir=tmp_path, temperature=0.2)
    assert cooler.sampling(record.sampling) == CONFIG.sampling.model_copy(update={"temperature": 0.2})


def test_a_version_from_before_chat_templates_goes_on_without(tmp_path: Path) -> None:
    """An old folder has only its training settings; it learned from prompts without a template."""
    old = json.loads(CONFIG.model_dump_json())
    del old["text"]["chat_template"], old["text"]["system_prompt"], old["sampling"]
    (tmp_path / "config.json").write_text(json.dumps(old), encoding="utf-8")
    record = read_record(tmp_path, _no_settings)
    assert (record.text.chat_template, record.text.separator) == ("off", ": ")
    assert record.sampling.max_new_tokens == 9


def test_a_changed_chat_template_is_noticed(tmp_path: Path) -> None:
    """A version that was trained through another template isn't served."""
    tiny_tokenizer("byte-level", "chatml").save_pretrained(tmp_path / "policy")
    write_record(tmp_path, CONFIG)
    assert read_record(tmp_path, _no_settings).chat_template_sha256
    (tmp_path / "policy" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    with pytest.raises(ModelError, match="chat template isn't the one"):
        read_record(tmp_path, _no_settings)
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="settings can't be read"):
        read_record(tmp_path, _no_settings)


def test_a_base_is_known_by_its_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    """A copy is the same base, other weights aren't; an older record has only a hub's name."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_dir, copy)
    identity = model_identity(str(tiny_model_dir))
    assert model_identity(str(copy)) == identity
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    changed = model_identity(str(copy))
    assert changed != identity
    assert not is_same_base(identity, str(copy), str(copy), changed)
    assert is_same_base("gpt2", "gpt2", "gpt2", "sha256:abc")
    assert not is_same_base("gpt2", "gpt2", "gpt2-large", "sha256:abc")


def test_a_setting_that_contradicts_the_training_file_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Both values are named; the same value twice is no contradiction, and a model folder's own settings give way."""
    path = tmp_path / "training.json"
    path.write_text('{"sampling": {"temperature": 0.6}}', encoding="utf-8")
    common = {"model": str(tiny_model_dir), "data_dir": tmp_path, "training_config": path}
    with pytest.raises(ConfigError, match=r"RANKLOOP_TEMPERATURE contradicts.*0\.9.*0\.6"):
        load_settings(**common, temperature=0.9).cycle_config()
    assert load_settings(**common, temperature=0.6).cycle_config().ppo.sampling.temperature == 0.6
    assert load_settings(**common, max_new_tokens=7).cycle_config().ppo.sampling.max_new_tokens == 7


def test_training_refuses_to_cut_the_distribution(tiny_model_dir: Path, tmp_path: Path) -> None:
    """PPO can't learn from answers of a cut distribution, and people are shown the same ones."""
    settings = load_settings(model=str(tiny_model_dir), data_dir=tmp_path, top_k=50)
    with pytest.raises(ConfigError, match=r"top_k = 50.*RANKLOOP_TEMPERATURE"):
        settings.cycle_config()
