"""The check of a GPU works, as far as that can be seen without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOT_THERE = ("accelerate", "datasets", "matplotlib", "peft", "mlflow", "openvino", "rouge_score", "ml_backend")
"""What a bare machine with torch and transformers need not have."""


def _run(*arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules.update(dict.fromkeys({without!r}))"
    started = "import runpy; runpy.run_path('scripts/gpu_check', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", f"{hidden}\n{started}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.slow
def test_it_runs_where_little_is_installed(tmp_path: Path) -> None:
    """With tiny models on the CPU everything is equal and measured; LoRA is left out where peft is missing."""
    found = _run("--cpu-smoke", "--out", str(tmp_path / "found.json"), without=NOT_THERE)
    assert found.returncode == 0, found.stderr
    report = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert report["equal"]
    assert set(report["differences"].values()) == {0.0}
    assert len(report["rows"]) == 10
    for row in report["rows"]:
        assert row["tokens_per_s"] > 0 or row["note"] == "peft isn't installed"


def test_missing_packages_are_named() -> None:
    """Without what training needs, it says what to install instead of failing in an import."""
    found = _run("--cpu-smoke", without=("pydantic", "rich"))
    assert found.returncode == 2
    assert "pip install pydantic rich" in found.stderr
