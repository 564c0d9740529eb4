"""A downloaded version: Transformers answers with it as the version itself does, and it appears whole or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import nudge, tiny_rotary, write_tiny_gpt2
from tiny_tokenizers import DATED, tiny_tokenizer
from transformers import AutoModelForCausalLM, GenerationConfig

from ml_backend.errors import HubError, RegistryError
from ml_backend.handover.hub import Hub
from ml_backend.handover.models import download, push
from ml_backend.registry import Version, VersionRecord, read_record
from ml_backend.serving.version import load_version
from ml_backend.settings import Settings
from training.config import CycleConfig, SamplingConfig, TextConfig
from training.errors import ConfigError

PROMPTS = ["What is tea?", "How do I boil an egg?", "one two three"]
GREEDY = SamplingConfig(max_new_tokens=12, top_k=1)


@dataclass
class OneVersion:
    """A registry with one version, whose files are in a folder."""

    folder: Path
    kind: str = "base"
    broken: str | None = None

    def get(self, name: str) -> Version:
        """The version."""
        if name != "rankloop-v1":
            raise RegistryError("there is no such version", got=name)
        return Version(1, name, "default", "run", None, {}, {"kind": self.kind}, 0.0)

    def fetch(self, _version: Version) -> Path:
        """Its folder."""
        if self.broken:
            raise RegistryError(self.broken)
        return self.folder

    def opinions(self, _line: str) -> dict[str, Any]:
        """What people say of the line."""
        return {"people": {"pairwise": 0.7, "pairwise_interval": [0.6, 0.8]}}


def _version(folder: Path, text: TextConfig, sampling: SamplingConfig) -> OneVersion:
    """A version with this record around the policy that is in the folder already."""
    record = VersionRecord(text=text, sampling=sampling, base="sha256:1", base_model=str(folder / "policy"))
    (folder / "version.json").write_text(record.model_dump_json(), encoding="utf-8")
    return OneVersion(folder)


@pytest.fixture
def plain(tmp_path: Path) -> OneVersion:
    """A random GPT-2 without a chat template, that is prompted with "TL;DR: "."""
    policy = tmp_path / "version" / "policy"
    write_tiny_gpt2(policy)
    model = AutoModelForCausalLM.from_pretrained(policy)
    nudge(model.parameters(), scale=0.3)
    model.save_pretrained(policy)
    text = TextConfig(separator=" TL;DR: ", max_prompt_tokens=64)
    return _version(policy.parent, text, SamplingConfig(temperature=0.7, top_k=20, top_p=0.9, max_new_tokens=12))


def _chat(folder: Path, kind: str, template: str, text: TextConfig, source: str | None = None) -> OneVersion:
    """A random Llama with a chat template, that likes to end its answers, and would like to pad."""
    tokenizer = tiny_tokenizer(kind, template)
    tokenizer.chat_template = source or tokenizer.chat_template
    model = tiny_rotary(
        "llama",
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    ends = tokenizer.convert_tokens_to_ids(["</s>", "<pad>"])
    with torch.no_grad():
        model.lm_head.weight[ends] *= 3.0
    model.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    return _version(folder, text, SamplingConfig(max_new_tokens=12))


CHATS: dict[str, tuple[str, str, TextConfig, str | None]] = {
    "chatml": ("byte-level", "chatml", TextConfig(system_prompt='Say "so".'), None),
    "llama 3's": ("byte-fallback", "llama3", TextConfig(), None),
    "gemma's": ("unigram", "gemma", TextConfig(), None),
    "with a date": ("byte-level", "chatml", TextConfig(), DATED),
    "turned off": ("byte-level", "chatml", TextConfig(chat_template="off"), None),
}


def _own_answers(registry: OneVersion, settings: Settings) -> list[list[int]]:
    """The greedy answers of the version as the server loads it, as tokens."""
    version = load_version("rankloop-v1", registry.folder, settings)
    prompts = version.codec.encode_prompts(PROMPTS)
    return version.sampler.sample(prompts, GREEDY, seeds=[0] * len(prompts)).answers()


def _by_the_card(folder: Path) -> list[list[int]]:
    """Greedy answers as the model card's own code gets them, with the prompts put in."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0].replace("print(", "shown = (")
    assert "What is tea?" in code
    code = code.replace('folder = "."', f"folder = {str(folder)!r}").replace(
        "(**inputs)", "(**inputs, do_sample=False)"
    )
    answers = []
    for prompt in PROMPTS:
        names: dict[str, Any] = {}
        exec(code.replace("What is tea?", prompt), names)  # noqa: S102  # the card's code is what is tested
        answers.append(names["answer"].tolist())
    return answers


def test_a_plain_models_greedy_answers_are_the_versions_own(
    plain: OneVersion, settings: Settings, tmp_path: Path
) -> None:
    """Token for token, by `from_pretrained` and the code in the model card; sampling and ends are the version's."""
    done = download(settings, plain, "rankloop-v1", tmp_path / "out")  # type: ignore[arg-type]  # a fake of our own edge
    own = _own_answers(plain, settings)
    assert _by_the_card(tmp_path / "out") == own
    assert len({tuple(answer) for answer in own}) > 1
    assert done.size > 100_000
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (generation.do_sample, generation.temperature, generation.top_k, generation.top_p) == (True, 0.7, 20, 0.9)
    assert (generation.max_new_tokens, generation.eos_token_id) == (12, [0])


@pytest.mark.parametrize("which", CHATS)
def test_a_chat_models_greedy_answers_are_the_versions_own(which: str, settings: Settings, tmp_path: Path) -> None:
    """Token for token, whatever the template, the system prompt, the date and the tokenizer's kind; padding is never an
    answer's token.
    """
    kind, template, text, source = CHATS[which]
    registry = _chat(tmp_path / "version", kind, template, text, source)
    download(settings, registry, "rankloop-v1", tmp_path / "out")  # type: ignore[arg-type]
    own = _own_answers(registry, settings)
    assert _by_the_card(tmp_path / "out") == own
    assert any(len(answer) < 12 for answer in own) or which != "chatml"
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert not {token for answer in own for token in answer} & {generation.pad_token_id}


def test_a_download_is_a_base_that_reads_as_the_version_did(
    plain: OneVersion, settings: Settings, tmp_path: Path
) -> None:
    """As RANKLOOP_MODEL, the folder brings separator, limits and sampling with it."""
    download(settings, plain, "rankloop-v1", tmp_path / "out")  # type: ignore[arg-type]
    config = CycleConfig.for_model(str(tmp_path / "out"))
    record = read_record(plain.folder, CycleConfig)
    assert (config.text, config.sampling) == (record.text, record.sampling)


def test_a_folder_with_something_in_it_is_left_alone(plain: OneVersion, settings: Settings, tmp_path: Path) -> None:
    """Without --force nothing changes; with it, the folder holds the version alone. Some folders are never replaced."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"isn't empty.*--force"):
        download(settings, plain, "rankloop-v1", out)  # type: ignore[arg-type]
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    for precious in (settings.home(), settings.home().parent):
        with pytest.raises(ConfigError, match="never replaced"):
            download(settings, plain, "rankloop-v1", precious, force=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is a file"):
        download(settings, plain, "rankloop-v1", out / "thesis.txt", force=True)  # type: ignore[arg-type]
    download(settings, plain, "rankloop-v1", out, force=True)  # type: ignore[arg-type]
    assert not (out / "thesis.txt").exists()
    assert (out / "model.safetensors").is_file()


def test_what_fails_leaves_nothing(plain: OneVersion, settings: Settings, tmp_path: Path) -> None:
    """An unknown version, weights that are gone, a folder that can't be read: no folder is there afterwards."""
    out = tmp_path / "elsewhere" / "out"
    with pytest.raises(RegistryError, match="no such version"):
        download(settings, plain, "rankloop-v9", out)  # type: ignore[arg-type]
    (plain.folder / "policy" / "tokenizer.json").write_text("{")
    with pytest.raises(Exception, match="tokenizer can't be loaded"):
        download(settings, plain, "rankloop-v1", out)  # type: ignore[arg-type]
    plain.broken = "rankloop-v1 has no weights any more"
    with pytest.raises(RegistryError, match="no weights"):
        download(settings, plain, "rankloop-v1", out)  # type: ignore[arg-type]
    assert list((tmp_path / "elsewhere").iterdir()) == []


class RecordingHub(Hub):
    """A hub that takes everything, and remembers it."""

    def check(self, repository: str) -> None:
        """Accept any name."""
        self.names = [repository]

    def upload(self, folder: Path, repository: str, *, private: bool, message: str) -> str:
        """Remember what came."""
        self.files = sorted(path.name for path in folder.iterdir())
        self.private, self.message = private, message
        return f"https://hub.example/{repository}"


def test_a_push_uploads_what_a_download_writes(plain: OneVersion, settings: Settings, tmp_path: Path) -> None:
    """The same files, as one commit that names the version; nothing stays behind on this machine."""
    download(settings, plain, "rankloop-v1", tmp_path / "out")  # type: ignore[arg-type]
    before = sorted(settings.home().iterdir())
    hub = RecordingHub()
    done = push(settings, plain, "rankloop-v1", "team/model", hub, private=True)  # type: ignore[arg-type]
    assert hub.files == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (hub.private, hub.message) == (True, "rankloop-v1, by rankloop")
    assert done.place == "https://hub.example/team/model"
    assert sorted(settings.home().iterdir()) == before


def test_without_a_token_nothing_is_made_ready(
    plain: OneVersion, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how to log in; a name that no repository can have is refused first."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    plain.broken = "the version isn't even asked for"
    with pytest.raises(HubError, match=r"nobody is logged in.*hf auth login"):
        push(settings, plain, "rankloop-v1", "team/model", Hub(), private=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"can't have this name.*OWNER/NAME"):
        push(settings, plain, "rankloop-v1", "a/b/c", Hub(), private=True)  # type: ignore[arg-type]


def test_without_a_network_the_error_says_so(tmp_path: Path) -> None:
    """A hub that doesn't answer is an error of the hub, in one sentence."""
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(HubError, match=r"took no upload.*Check the network"):
        Hub("http://127.0.0.1:9", "a token").upload(tmp_path, "team/model", private=True, message="none")
