"""The notebook runs as it stands, and shows a line's own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from ml_backend.registry import Registry
from ml_backend.settings import Settings

NOTEBOOK = Path(__file__).parent.parent / "examples" / "line_history.ipynb"
METRICS = {
    "reward_accuracy": 0.7,
    "reward_accuracy_low": 0.6,
    "reward_accuracy_high": 0.78,
    "win_rate_vs_base": 0.8,
    "win_rate_low": 0.7,
    "win_rate_high": 0.9,
    "kl_nats": 3.5,
}
PPO = {
    "curve": [
        {"iteration": 0, "reward": 0.0, "kl_nats": 0.0, "answer_tokens": 20.0},
        {"iteration": 1, "reward": 0.5, "kl_nats": 3.5, "answer_tokens": 18.0},
    ],
    "best_of_n": [{"n": 8, "kl_nats": 1.2, "gain": 1.0, "win_rate": 0.77}],
    "kl_from_base_nats": 3.4,
    "win_rate_on_pool": 0.75,
    "verdict": "It doesn't earn its KL.",
}


def _run(environment: pytest.MonkeyPatch, settings: Settings) -> dict[str, Any]:
    """Run all code cells in a row, as Jupyter would; returns what they defined."""
    environment.setenv("RANKLOOP_DATA_DIR", str(settings.data_dir))
    environment.setenv("RANKLOOP_MODEL", settings.model)
    environment.setattr(plt, "show", lambda: None)
    mpl.use("Agg")
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102  # our own notebook
    plt.close("all")
    return names


def _points(axes: Any) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()]


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A registry with the base on a line."""
    made = Registry(mlflow_settings)
    made.current("tea")
    return made


def test_it_plots_the_versions_figures(
    registry: Registry, mlflow_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """Accuracy beside agreement, win rate, KL, the training's curve and the frontier are those of the version."""
    (tmp_path / "made").mkdir()
    report = {"reward": {"agreement": 0.65}, "ppo": PPO}
    (tmp_path / "made" / "report.json").write_text(json.dumps(report))
    run = registry.start_cycle_run(7, "cycle-7-a", {"line": "tea"})
    registry.register(
        tmp_path / "made", run_id=run, parent="rankloop.tea-v1", metrics=METRICS, tags={"kind": "cycle"}, line="tea"
    )
    registry.finish_run(run, "promoted", "It is better.")
    names = _run(monkeypatch, mlflow_settings)
    accuracy, win_rate, kl = names["quality"].axes
    assert [(2, 0.7)] in _points(accuracy)
    assert [(2, 0.65)] in _points(accuracy)
    assert [(2, 0.8)] in _points(win_rate)
    assert _points(kl) == [[(2, 3.5)]]
    assert _points(names["training"].axes[0]) == [[(0, 0.0), (1, 0.5)]]
    assert _points(names["frontier"].axes[0]) == [[(1.2, 0.77)], [(3.4, 0.75)]]
    shown = capsys.readouterr().out
    for words in ("* rankloop.tea-v1", "from rankloop.tea-v1", "It doesn't earn its KL.", "cycle-7-a promoted"):
        assert words in shown


def test_it_runs_where_nothing_was_trained_yet(
    registry: Registry, mlflow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that has only the base has empty plots."""
    names = _run(monkeypatch, mlflow_settings)
    assert names["line"] == "tea"
    assert names["trained"] == []
    assert registry.versions("tea") == names["versions"]


def test_it_is_a_notebook_without_output() -> None:
    """Jupyter's format 4.5: every cell has an id of its own, and no figure of somebody's is stored in it."""
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        assert set(cell) >= {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
