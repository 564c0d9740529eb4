"""The demo's decisions before it starts anything, and its handling of interrupts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ml_backend.demo.run import DemoOptions, _interruptible, judgements_per_round, run_demo, tasks_ahead
from ml_backend.demo.screen import Screen
from ml_backend.demo.stack import environment_of
from ml_backend.settings import load_settings
from training.errors import ConfigError


def test_the_default_leaves_prompts_for_skips_and_for_the_last_version() -> None:
    """430 prompts: 20 stay, and 12% more tasks than judgements are opened; never more than 200 per round."""
    assert judgements_per_round(DemoOptions(rounds=2), 430) == 183
    assert judgements_per_round(DemoOptions(rounds=1), 430) == 200
    assert judgements_per_round(DemoOptions(rounds=1, model="smollm2"), 400) == 300
    assert judgements_per_round(DemoOptions(rounds=2, annotations=40), 430) == 40
    assert judgements_per_round(DemoOptions(rounds=1, promotion="people"), 430) == 187  # 200 more stay, for contests


def test_every_task_that_a_round_opens_has_answers() -> None:
    """Usually 300 tasks are proposed for ahead of time, too few for 300 judgements with their skips."""
    assert tasks_ahead(300) == 336 + 20
    assert tasks_ahead(183) == 300


@pytest.mark.parametrize("options", [DemoOptions(annotations=300), DemoOptions(rounds=400), DemoOptions(annotations=0)])
def test_more_annotations_than_prompts_are_refused(options: DemoOptions) -> None:
    """The error says how many are possible."""
    with pytest.raises(ConfigError, match=r"at most \d+ per round"):
        judgements_per_round(options, 430)


def test_a_wrong_preference_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is created and no process started before the options are checked."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="no such preference file"):
        run_demo(DemoOptions(preference=str(tmp_path / "none.py:taste")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_raised_and_the_second_waits(number: signal.Signals) -> None:
    """Cleanup takes a moment, and a second Ctrl-C must not cut it short."""
    before = signal.getsignal(number)
    with _interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_interrupts_are_ignored_once_the_end_has_begun() -> None:
    """An interrupt during cleanup changes nothing."""
    with _interruptible() as ignore:
        ignore()
        os.kill(os.getpid(), signal.SIGINT)


def test_child_processes_come_to_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chosen setting reaches a child through the environment, overriding what was set before."""
    chosen = {
        "data_dir": tmp_path,
        "label_studio_url": "http://localhost:1",
        "label_studio_api_key": "key",
        "basic_auth_user": "ada",
        "basic_auth_pass": "pass",
        "port": 1234,
        "champion_poll_s": 1.5,
        "mlflow_tracking_uri": "",
    }
    monkeypatch.setenv("RANKLOOP_MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://elsewhere")
    for name, value in environment_of(chosen).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == load_settings(**chosen)
    assert load_settings().tracking_uri().startswith("sqlite:///")


def test_phases_are_measured_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is one line per phase, with its outcome."""
    with Screen() as screen, screen.phase("first", "The first phase") as phase:
        phase.at(3, 4)
        phase.note("three of four [and no markup]")
    assert set(screen.seconds) == {"first", "total"}
    assert screen.seconds["total"] >= screen.seconds["first"] >= 0
    assert capsys.readouterr().err == "The first phase: 0 s  three of four [and no markup]\n"
