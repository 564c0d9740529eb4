"""`python -m training`: fast to start, clear when something is wrong, and a whole cycle on plain files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from training.__main__ import app
from training.data.split import split_of
from training.data.types import Split

Run = Callable[..., Result]

SETTINGS = {
    "sft": {"epochs": 1, "batch_size": 8, "learning_rate": 0.001},
    "reward": {"epochs": 3, "learning_rate": 0.003},
    "ppo": {
        "iterations": 2,
        "prompts_per_iteration": 8,
        "minibatch_size": 8,
        "epochs": 1,
        "evaluation_answers": 1,
        "best_of": 2,
        "origin_answers": 2,
        "sampling": {"top_k": 0, "top_p": 1.0, "max_new_tokens": 8},
    },
    "gates": {"min_preferences": 10, "min_reward_accuracy": 0.0, "min_win_rate": 0.0},
    "min_demonstrations": 4,
}
QUESTIONS = [f"What is {n} plus {n + 1}?" for n in range(40)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Test models are too small to benefit from two threads, and other tests may run in parallel."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with settings, preferences, prompts and demonstrations."""
    assert {split_of(question) for question in QUESTIONS} == set(Split)
    rows = {
        "preferences": [{"prompt": q, "chosen": "It is so.", "rejected": "No no no no."} for q in QUESTIONS],
        "prompts": [{"prompt": q} for q in QUESTIONS],
        "demonstrations": [{"prompt": q, "answer": "It is so."} for q in QUESTIONS],
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


@pytest.fixture
def run(files: Path, tiny_model_dir: Path) -> Run:
    """Runs a command on the tiny model; options may name files in the folder."""

    def run(command: str, **options: str) -> Result:
        given = {"model": str(tiny_model_dir), "config": "settings.json", "device": "cpu", "out": "out", **options}
        arguments = [command]
        for name, value in given.items():
            path = files / value
            arguments += [f"--{name.replace('_', '-')}", str(path) if path.exists() or name == "out" else value]
        return CliRunner().invoke(app, arguments)

    return run


def test_help_is_there_at_once() -> None:
    """Help lists all commands without importing PyTorch."""
    script = "import sys, training.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
    found = subprocess.run([sys.executable, "-m", "training", "--help"], check=True, capture_output=True, text=True)
    for command in ("sft", "reward", "ppo", "evaluate", "cycle"):
        assert command in found.stdout


@pytest.mark.parametrize("command", ["sft", "reward", "ppo", "evaluate", "cycle"])
def test_every_command_explains_its_options(command: str) -> None:
    """Every option of every command has a help text."""
    found = CliRunner().invoke(app, [command, "--help"])
    assert found.exit_code == 0
    assert "--config" in found.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "/no/such/model"}, "the model can't be loaded"),
        ({"preferences": "/no/such/file.jsonl"}, "file.jsonl can't be read"),
        ({"preferences": "empty.jsonl"}, "too few preferences"),
        ({"preferences": "ties.jsonl"}, "too few preferences"),
        ({"preferences": "broken.jsonl"}, "broken.jsonl, line 1: not valid JSON"),
        ({"config": "unknown.json"}, "reward.colour"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_a_fault_is_one_line_and_status_2(run: Run, files: Path, options: dict[str, str], words: str) -> None:
    """An error is reported in one sentence, without a traceback."""
    (files / "empty.jsonl").touch()
    (files / "broken.jsonl").write_text('{"prompt": "What')
    ties = [{"prompt": q, "chosen": "yes", "rejected": "no", "p_chosen": 0.5} for q in QUESTIONS]
    (files / "ties.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ties))
    (files / "unknown.json").write_text('{"reward": {"colour": 1}}')
    found = run("reward", **{"preferences": "preferences.jsonl", **options})
    assert found.exit_code == 2
    (line,) = [line for line in found.stderr.splitlines() if line]
    assert line.startswith("Error: ")
    assert words in line
    again = run("reward", preferences="preferences.jsonl")
    assert again.exit_code == 0, again.stderr


def test_a_run_of_other_inputs_is_refused(run: Run, files: Path) -> None:
    """A finished run isn't overwritten by one with other preferences; repeating the same run does nothing."""
    assert run("reward", preferences="preferences.jsonl").exit_code == 0
    before = (files / "out" / "reward_model.safetensors").stat().st_mtime_ns
    again = run("reward", preferences="preferences.jsonl")
    assert again.exit_code == 0
    assert "already" in again.stderr
    assert (files / "out" / "reward_model.safetensors").stat().st_mtime_ns == before
    lines = (files / "preferences.jsonl").read_text().splitlines()
    (files / "fewer.jsonl").write_text("\n".join(lines[:-1]))
    other = run("reward", preferences="fewer.jsonl")
    assert other.exit_code == 2
    assert "holds another run" in other.stderr
    assert "preferences" in other.stderr


def test_prompts_too_long_for_the_model_are_cut_and_counted(run: Run, files: Path) -> None:
    """A prompt of 400 words loses its beginning, and the number of truncated prompts is reported."""
    rows = [json.loads(line) for line in (files / "preferences.jsonl").read_text().splitlines()]
    rows[0]["prompt"] = "what then " * 200 + rows[0]["prompt"]
    (files / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run("reward", preferences="long.jsonl")
    assert found.exit_code == 0, found.stderr
    assert "1 prompts longer than 512 tokens or the model's limit were cut at the beginning" in found.stderr


@pytest.mark.slow
def test_a_whole_cycle_on_files(run: Run, files: Path) -> None:
    """Every stage leaves its result; then the policy is evaluated, and repeating the cycle does nothing."""
    inputs = {"preferences": "preferences.jsonl", "prompts": "prompts.jsonl"}
    found = run("cycle", **inputs, demonstrations="demonstrations.jsonl")
    assert found.exit_code == 0, found.stderr
    report = json.loads((files / "out" / "report.json").read_text())
    assert report["passed"]
    assert set(report["stages"]) == {"sft", "reward", "ppo"}
    assert report["stages"]["reward"]["accuracy"]["train"] == 1.0
    assert len(report["stages"]["ppo"]["curve"]) == 2
    for name in ("curves.png", "sft/policy/model.safetensors", "ppo/policy/model.safetensors", "ppo/progress.json"):
        assert (files / "out" / name).stat().st_size > 0
    assert not list((files / "out").rglob("checkpoints"))
    evaluated = run("evaluate", **inputs, policy="out/ppo/policy", reward_model="out/reward", out="evaluation")
    assert evaluated.exit_code == 0, evaluated.stderr
    measured = json.loads((files / "evaluation" / "report.json").read_text())
    assert measured["evaluated_prompts"] == sum(split_of(question) is not Split.TRAIN for question in QUESTIONS)
    assert measured["reward_accuracy"] == 1.0
    again = run("cycle", **inputs, demonstrations="demonstrations.jsonl")
    assert again.exit_code == 0
    assert "already" in again.stderr


def test_a_gate_that_doesnt_pass_ends_the_cycle(run: Run, files: Path) -> None:
    """A reward model that isn't good enough stops the cycle before PPO: status 3, and the report says why."""
    strict = {**SETTINGS, "gates": {"min_preferences": 10, "min_reward_accuracy": 1.0}}
    (files / "strict.json").write_text(json.dumps(strict))
    rows = [json.loads(line) for line in (files / "preferences.jsonl").read_text().splitlines()]
    for row in rows[::2]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    (files / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run("cycle", preferences="noise.jsonl", prompts="prompts.jsonl", config="strict.json")
    assert found.exit_code == 3, found.stderr
    report = json.loads((files / "out" / "report.json").read_text())
    assert not report["passed"]
    assert "below the required 100%" in report["reason"]
    assert not (files / "out" / "ppo").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(files: Path, tiny_model_dir: Path) -> None:
    """Supervised training under torch's launcher gives the same losses as in a single process."""
    options = ["sft", "--model", str(tiny_model_dir), "--data", str(files / "demonstrations.jsonl"), "--device", "cpu"]
    options += ["--config", str(files / "settings.json")]
    curves = []
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc_per_node", "2"])):
        command = [sys.executable, *launcher, "-m", "training", *options, "--out", str(files / name)]
        found = subprocess.run(command, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        curves.append(json.loads((files / name / "report.json").read_text())["curve"])
    for one, two in zip(*curves, strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=2e-3)
        assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=2e-3)
