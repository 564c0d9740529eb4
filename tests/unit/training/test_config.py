"""Training settings: one sampling for all, defaults that follow the model, contradictions refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.config import CycleConfig, SamplingConfig
from training.errors import ConfigError


def _file(folder: Path, **settings: Any) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@pytest.mark.parametrize("where", ["top", "ppo"])
def test_sampling_is_one_wherever_a_file_says_it(tmp_path: Path, where: str) -> None:
    """Older files have it under ppo; both places are the same setting."""
    sampling = {"temperature": 0.5, "max_new_tokens": 8}
    config = CycleConfig.from_file(
        _file(tmp_path, **({"sampling": sampling} if where == "top" else {"ppo": {"sampling": sampling}}))
    )
    assert config.sampling == config.ppo.sampling == SamplingConfig(temperature=0.5, max_new_tokens=8)
    config.save(tmp_path / "saved.json")
    assert CycleConfig.from_file(tmp_path / "saved.json") == config


def test_two_samplings_that_differ_are_refused(tmp_path: Path) -> None:
    """The error has both values."""
    path = _file(tmp_path, sampling={"temperature": 0.5}, ppo={"sampling": {"temperature": 0.9}})
    with pytest.raises(ConfigError, match=r"sampling\.temperature is 0\.5, but ppo\.sampling\.temperature is 0\.9"):
        CycleConfig.from_file(path)


def test_nothing_is_cut_off_by_default() -> None:
    """PPO's log-probs are those of the full distribution."""
    assert (CycleConfig().sampling.top_k, CycleConfig().sampling.top_p) == (0, 1.0)


def test_a_chat_models_defaults_are_longer_and_cooler(tmp_path: Path) -> None:
    """Only what isn't set follows the model, and answers are read as long as they are sampled."""
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    plain, chat = CycleConfig().suited_to(str(tmp_path / "nothing")), CycleConfig().suited_to(str(tmp_path))
    assert (plain.sampling.temperature, plain.sampling.max_new_tokens) == (1.0, 64)
    assert (chat.sampling.temperature, chat.sampling.max_new_tokens) == (0.7, 256)
    assert chat.ppo.sampling == chat.sampling
    longer = CycleConfig.model_validate({"sampling": {"max_new_tokens": 600}}).suited_to(str(tmp_path))
    assert (longer.sampling.temperature, longer.text.max_answer_tokens) == (0.7, 601)
    off = CycleConfig.model_validate({"text": {"chat_template": "off"}}).suited_to(str(tmp_path))
    assert off.sampling.max_new_tokens == 64


def test_answers_longer_than_they_are_read_are_refused(tmp_path: Path) -> None:
    """Scores would be of other answers than those that were sampled."""
    given = {"sampling": {"max_new_tokens": 40}, "text": {"max_answer_tokens": 30}}
    with pytest.raises(ConfigError, match=r"max_new_tokens = 40.*max_answer_tokens = 30"):
        CycleConfig.model_validate(given).suited_to(str(tmp_path))


def test_a_projects_own_settings_replace_the_rest() -> None:
    """Its system prompt, and its answer length throughout."""
    told = CycleConfig().told("Be short.", 600)
    assert (told.text.system_prompt, told.text.max_answer_tokens) == ("Be short.", 601)
    assert told.ppo.sampling.max_new_tokens == told.sampling.max_new_tokens == 600
    assert CycleConfig().told(None, None) == CycleConfig()
