"""Reddit TL;DR from files of every kind, and the whole path from comparisons to a policy with ROUGE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from training.__main__ import app
from training.config import TextConfig
from training.data.hub import rows_of
from training.data.split import split_of
from training.data.tasks import Task
from training.data.tldr import read_tldr_demonstrations, read_tldr_preferences, read_tldr_prompts
from training.data.types import Demonstration, PromptRecord, Split
from training.errors import ConfigError, DataError

POST = "SUBREDDIT: r/tea\nTITLE: Cold tea\nPOST: I forgot my tea on the desk and now it is cold."


def _post(number: int) -> str:
    return (
        f"SUBREDDIT: r/tea\nTITLE: Cup {number}\nPOST: My tea number {number} is cold. I forgot it on the desk.\nTL;DR:"
    )


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "folder", "saved"])
def test_prompts_from_files_of_every_kind(tmp_path: Path, kind: str) -> None:
    """Every file type gives the same three posts, two of them with summaries."""
    import datasets

    rows = [{"prompt": _post(n), "label": f" It is cold {n}."} for n in range(2)] + [
        {"prompt": _post(2), "label": None}
    ]
    data = datasets.Dataset.from_list(rows)
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        _write(path, rows)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "folder":
        path.mkdir()
        _write(path / "train.jsonl", rows[:1])
        _write(path / "test.jsonl", rows[1:])
    elif kind == "saved":
        data.save_to_disk(str(path))
    else:
        getattr(data, f"to_{kind}")(str(path))
    found = read_tldr_prompts(str(path))
    assert sorted(found, key=lambda record: record.prompt) == [
        PromptRecord(_post(0), "It is cold 0."),
        PromptRecord(_post(1), "It is cold 1."),
        PromptRecord(_post(2), None),
    ]
    assert len(read_tldr_prompts(str(path), limit=2)) == 2


def test_every_prompt_ends_in_the_mark_once(tmp_path: Path) -> None:
    """A post with the mark, with a trailing space after it, or without it is the same prompt, read once."""
    rows = [{"prompt": POST + end, "label": "Cold."} for end in ("\nTL;DR:", "\nTL;DR: ", "\n", "")]
    assert read_tldr_prompts(_write(tmp_path / "data.jsonl", rows)) == [PromptRecord(f"{POST}\nTL;DR:", "Cold.")]


def test_demonstrations_are_posts_and_summaries(tmp_path: Path) -> None:
    """The summary may be named label or summary; without one there is nothing to imitate."""
    rows = [{"prompt": _post(0), "label": "TL;DR: Cold. "}]
    assert read_tldr_demonstrations(_write(tmp_path / "a.jsonl", rows)) == [Demonstration(_post(0), "Cold.")]
    with pytest.raises(DataError, match=r'line 1: no "reference" or "label" or "summary"'):
        read_tldr_demonstrations(_write(tmp_path / "b.jsonl", [{"prompt": _post(0)}]))


def test_comparisons_of_chosen_and_rejected(tmp_path: Path) -> None:
    """A leading mark is removed; two votes against one make two thirds; uninformative rows are counted."""
    rows = [
        {"prompt": POST, "chosen": "TL;DR: Cold tea.", "rejected": "TL;DR: I like desks."},
        {"prompt": POST, "chosen": "Cold tea.", "rejected": "I like desks."},
        {"prompt": POST, "chosen": "I like desks.", "rejected": "Cold tea."},
        {"prompt": POST, "chosen": "The same.", "rejected": "TL;DR: The same."},
        {"prompt": POST, "chosen": "Something.", "rejected": "TL;DR:"},
    ]
    (found,), left_out = read_tldr_preferences(_write(tmp_path / "data.jsonl", rows))
    assert (found.prompt, found.chosen, found.rejected) == (f"{POST}\nTL;DR:", "Cold tea.", "I like desks.")
    assert (found.p_chosen, found.votes, left_out) == (pytest.approx(2 / 3), 3, 2)


def test_comparisons_as_people_were_asked(tmp_path: Path) -> None:
    """Posts with two summaries and a choice give the same prompts; rows that aren't posts are left out."""
    info = {"subreddit": "tea", "title": "Cold tea", "post": "I forgot my tea on the desk and now it is cold."}
    summaries = [{"text": " I like desks.", "policy": "a"}, {"text": " Cold tea.", "policy": "b"}]
    rows = [
        {"info": info, "summaries": summaries, "choice": 1, "worker": "w1"},
        {"info": info, "summaries": summaries, "choice": 1, "worker": "w2"},
        {"info": {**info, "post": None}, "summaries": summaries, "choice": 1, "worker": "w2"},
    ]
    (found,), left_out = read_tldr_preferences(_write(tmp_path / "data.jsonl", rows))
    assert (found.prompt, found.chosen, found.rejected) == (f"{POST}\nTL;DR:", "Cold tea.", "I like desks.")
    assert (found.votes, found.annotators, left_out) == (2, ("w1", "w2"), 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": POST, "chosen": "Cold."}, r'line 1: no "rejected"'),
        ({"chosen": "Cold.", "rejected": "Hot."}, r'line 1: no "prompt"'),
        ({"prompt": POST, "chosen": 3, "rejected": 4}, '"chosen" can\'t be used; got 3; expected text'),
        ({"info": {"post": "x", "subreddit": "y"}, "summaries": [{"text": "a"}], "choice": 0}, "two objects"),
        (
            {"info": {"post": "x", "subreddit": "y"}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 2},
            "expected 0 or 1",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    """The error names the file and row, the value and what was expected."""
    with pytest.raises(DataError, match=words):
        read_tldr_preferences(_write(tmp_path / "data.jsonl", [row]))


def test_data_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing, damaged or unknown type of file gives one clear error; an empty one has no rows."""
    (tmp_path / "broken.json").write_text('{"prompt": ')
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.jsonl").touch()
    for name in ("missing.jsonl", "broken.json", "notes.txt"):
        with pytest.raises(DataError, match=rf"dataset can't be read; got '.*{name}'"):
            list(rows_of(str(tmp_path / name)))
    assert list(rows_of(str(tmp_path / "empty.jsonl"))) == []
    with pytest.raises(DataError, match="contains no prompts"):
        Task("tldr").prompts(tmp_path / "empty.jsonl")


def test_a_limit_needs_a_data_set() -> None:
    """A limit is refused for our own files."""
    with pytest.raises(ConfigError, match="--task tldr"):
        Task("answers", limit=3)


def test_the_template_of_a_task() -> None:
    """Nothing separates a post's mark from its summary; other texts keep the configured separator."""
    assert Task("tldr").text(TextConfig()).separator == ""
    assert Task().text(TextConfig(separator="\n\n")).separator == "\n\n"


SETTINGS = {
    "sft": {"epochs": 1, "batch_size": 8, "learning_rate": 0.001},
    "reward": {"epochs": 3, "learning_rate": 0.003},
    "ppo": {
        "iterations": 2,
        "prompts_per_iteration": 8,
        "minibatch_size": 8,
        "epochs": 1,
        "sampling": {"top_k": 0, "top_p": 1.0, "max_new_tokens": 12},
    },
    "gates": {"min_preferences": 10},
}


@pytest.mark.slow
def test_the_whole_way(tiny_model_dir: Path, tmp_path: Path) -> None:
    """From comparisons and posts in files to a policy evaluated against human summaries, command by command."""
    numbers = range(60)
    assert {split_of(_post(number)) for number in numbers} == set(Split)
    posts = [{"prompt": _post(n), "label": f" Tea number {n} is cold."} for n in numbers]
    # Comparisons without the mark at the prompt's end and with it before the summaries, as some files have them.
    pairs = [
        {
            "prompt": _post(n).removesuffix("\nTL;DR:"),
            "chosen": "TL;DR: The tea is cold.",
            "rejected": "TL;DR: No no no.",
        }
        for n in numbers
    ]
    files = {"prompts": _write(tmp_path / "posts.jsonl", posts), "preferences": _write(tmp_path / "pairs.json", pairs)}
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))

    def run(command: str, out: str, **options: str) -> dict[str, Any]:
        given = {"model": tiny_model_dir, "config": tmp_path / "settings.json", "device": "cpu", "task": "tldr"}
        given |= {"out": tmp_path / out, **options}
        arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        found = CliRunner().invoke(app, [command, *arguments])
        assert found.exit_code == 0, found.stderr
        report: dict[str, Any] = json.loads((tmp_path / out / "report.json").read_text())
        return {**report, "stderr": found.stderr}

    learned = run("sft", "sft", data=files["prompts"])
    assert sum(learned["n"].values()) == 60
    rewarded = run("reward", "reward", preferences=files["preferences"])
    assert rewarded["accuracy"]["test"] == 1.0
    reward_model = str(tmp_path / "reward")
    policy = run("ppo", "ppo", prompts=files["prompts"], reward_model=reward_model, policy=str(tmp_path / "sft/policy"))
    assert policy["stopped"] is None
    assert policy["rouge"].keys() == policy["base_rouge"].keys() == {"rouge1", "rouge2", "rougeL"}
    assert all(0 <= value <= 1 for value in policy["rouge"].values())
    assert 0 <= policy["win_rate_vs_reference"] <= 1
    assert "ROUGE" in policy["stderr"]
    assert "Evaluating on" in policy["stderr"]
    measured = run(
        "evaluate",
        "evaluation",
        **files,
        policy=str(tmp_path / "ppo/policy"),
        reward_model=reward_model,
    )
    assert measured["rouge"].keys() == policy["rouge"].keys()
    assert measured["reward_accuracy"] == 1.0


def test_the_reward_is_measured_against_the_persons_summary(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Where the reference summary scores higher, the same answer's reward is lower by that difference, in spreads."""
    import torch

    from training.config import PPOConfig, SamplingConfig
    from training.models.load import load_causal_lm
    from training.models.reward import RewardModel
    from training.models.text import TextCodec
    from training.ppo.train import train_ppo
    from training.ppo.trainer import Start

    base = load_causal_lm(str(tiny_model_dir), "cpu")
    reward_model = RewardModel.on_base(base, 0.7)
    torch.nn.init.normal_(reward_model.head.weight, generator=torch.Generator().manual_seed(0))
    codec = TextCodec.load(str(tiny_model_dir), Task("tldr").text(TextConfig(max_prompt_tokens=100)))
    config = PPOConfig(
        best_of=2,
        origin_answers=2,
        iterations=1,
        prompts_per_iteration=8,
        epochs=1,
        missing_eos_penalty=0.0,
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=8),
    )
    points, origins = [], []
    for name, summary in (("one", "Cold."), ("other", "My tea is cold since I forgot it.")):
        path = _write(tmp_path / f"{name}.jsonl", [{"prompt": _post(0), "label": summary}])
        records = Task("tldr").prompts(Path(path))
        assert split_of(records[0].prompt) is Split.TRAIN
        origins.append(float(reward_model.score_texts(codec, [_post(0)], [summary])[0]))
        points.append(train_ppo(base, Start(), codec, reward_model, records, config, tmp_path / name).curve[0])
    assert points[0].score == points[1].score
    # Rewards are in spreads of the base's own answers to this prompt, the same for both summaries.
    spread = (origins[1] - origins[0]) / (points[0].reward - points[1].reward)
    assert spread > 0
    assert points[0].reward == pytest.approx((points[0].score - origins[0]) / spread, abs=1e-4)
