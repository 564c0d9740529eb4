"""The command line: helpful help, one-line errors, and commands that need no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ml_backend.cli.app import app
from ml_backend.cli.reports import cycle_row, version_rows
from ml_backend.loop.client import CycleJob
from ml_backend.registry.records import Version

COMMANDS = [
    "up",
    "serve",
    "worker",
    "init-project",
    "propose",
    "train",
    "status",
    "versions",
    "promote",
    "rollback",
    "contest",
    "export",
    "download",
    "push",
    "doctor",
    "demo",
]


def _rankloop(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLOOP_", "LABEL_STUDIO_"))}
    return subprocess.run(
        [sys.executable, "-m", "ml_backend.cli", *arguments],
        cwd=cwd,
        env={**clean, "RANKLOOP_DATA_DIR": str(cwd / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_lists_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    """`rankloop --help` names all commands, and imports no torch, MLflow, DBOS or Label Studio SDK."""
    script = (
        "import sys; from ml_backend.cli.app import app; app(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'mlflow', 'dbos', 'label_studio_sdk', 'transformers', 'datasets'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [name for name in COMMANDS if name not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """Each command's help says what it does, with an example if it takes any arguments."""
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    if command != "worker":
        assert f"rankloop {command}" in " ".join(shown.output.split())


def test_export_from_a_file_prints_the_summary_alone(tmp_path: Path) -> None:
    """Stdout is JSON, so that a script can read it; the preferences are in the file."""
    area = {"type": "textarea", "to_name": "prompt"}
    result = [
        {**area, "from_name": "answer1", "value": {"text": ["Boil it."]}},
        {**area, "from_name": "answer2", "value": {"text": ["Go away."]}},
        {"type": "choices", "from_name": "verdict", "to_name": "prompt", "value": {"choices": ["answer1"]}},
    ]
    annotations = [
        {"id": 1, "completed_by": 1, "was_cancelled": False, "result": result},
        {"id": 2, "completed_by": 2, "was_cancelled": True, "result": result},
    ]
    task = {"id": 9, "data": {"prompt": "How do I cook an egg?"}, "annotations": annotations}
    (tmp_path / "export.json").write_text(json.dumps([task]), encoding="utf-8")
    done = _rankloop("export", "--from-file", "export.json", "--out", "prefs.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["annotations"], summary["kept"], summary["skipped"], summary["ties"]) == (2, 1, 1, 0)
    row = json.loads((tmp_path / "prefs.jsonl").read_text(encoding="utf-8"))
    assert (row["chosen"], row["rejected"], row["votes"]) == ("Boil it.", "Go away.", 1)


def test_an_export_without_judgements_exits_with_1_and_says_why(tmp_path: Path) -> None:
    """The counts are still on stdout; no file is written."""
    task = {"id": 9, "data": {"prompt": "Egg?"}, "annotations": [], "drafts": [{"result": []}]}
    (tmp_path / "export.json").write_text(json.dumps([task]), encoding="utf-8")
    done = _rankloop("export", "--from-file", "export.json", "--out", "prefs.jsonl", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["drafts"]) == (1, 1)
    assert "nobody has submitted them yet" in done.stderr
    assert not (tmp_path / "prefs.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["export", "--from-file", "missing.json"], {}, "missing.json can't be read"),
        (["init-project"], {}, "LABEL_STUDIO_API_KEY is not set"),
        (["versions"], {"RANKLOOP_PORT": "banana"}, "RANKLOOP_PORT"),
        (["up", "--host", "0.0.0.0"], {}, "BASIC_AUTH_USER"),  # noqa: S104
    ],
)
def test_a_fault_is_one_line_and_exit_code_2(
    arguments: list[str], environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    """The error says what is wrong and what to do about it, without a traceback."""
    done = _rankloop(*arguments, cwd=tmp_path, **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("rankloop: ")
    assert done.stderr.count("\n") == 1


def test_debug_shows_where_it_happened(tmp_path: Path) -> None:
    """`--debug` brings the traceback back."""
    done = _rankloop("--debug", "export", "--from-file", "missing.json", cwd=tmp_path)
    assert done.returncode not in (0, 2)
    assert "Traceback" in done.stderr


def test_rows_of_the_versions_table() -> None:
    """The champion is marked, figures are rounded, and a base without figures has dashes."""
    base = Version(1, "m-v1", "default", None, None, {}, {}, 0.0)
    figures = {"annotations": 120.0, "reward_accuracy": 0.8125, "kl_nats": 5.4321, "win_rate_vs_base": 0.9}
    figures["agreement"] = 0.7
    tuned = Version(2, "m-v2", "default", "run", "m-v1", figures, {}, 0.0)
    rows = list(version_rows([base, tuned], tuned))
    assert rows[0][:9] == ("default", "m-v1", "", "-", "-", "-", "-", "-", "-")
    assert rows[1][:9] == ("default", "m-v2", "*", "120", "81.2%", "70.0%", "5.43", "90.0%", "m-v1")


def test_rows_of_the_training_cycles() -> None:
    """A running cycle shows its progress, a finished one the reason for its outcome."""
    job = CycleJob("cycle-7-ab", 7, "running", "ppo", 3, 10)
    assert cycle_row(job)[:3] == ("cycle-7-ab", "-", "7")
    assert cycle_row(job)[4:] == ("ppo 3/10", "")
    assert cycle_row(replace(job, line="shared"))[1] == "shared"
    assert cycle_row(replace(job, step="snapshot", done=None, total=None))[4] == "snapshot"
    assert cycle_row(replace(job, state="rejected", step=None, reason="too close"))[4:] == ("rejected", "too close")


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """Help is there at once: neither PyTorch nor the SDKs of outside systems are imported for it."""
    heavy = {"torch", "transformers", "datasets", "mlflow", "dbos", "label_studio_sdk", "flask"}
    show = "import sys; from ml_backend.cli.app import app; app(['--help'], standalone_mode=False)"
    script = f"{show}; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.rstrip().endswith("set()")
