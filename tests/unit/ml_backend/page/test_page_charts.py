"""Charts: drawn once, as text and shapes, in the reader's colours, from the numbers of their tables."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from page_fakes import LEADERBOARD, report, version

from ml_backend.page.charts import Chart, Drawings, Point, Series, charts_of, drawing, leaderboard_chart, versions_chart
from ml_backend.page.facts import LineFacts, VersionReports
from ml_backend.page.line_view import view_line
from ml_backend.page.opinions import read_opinions
from training.ppo import PPOReport
from training.reward import RewardReport

CHART = Chart(
    "share", "A share", "epoch", "accuracy", "It grows.",
    (Series("one", (Point(0, 0.5, 0.4, 0.6), Point(1, None), Point(2, 0.72))), Series("two", (Point(1, 0.6),), True)),
    is_share=True,
)  # fmt: skip


def test_the_table_has_what_is_drawn() -> None:
    """A row for each x of any series, intervals in brackets, and a dash where there is a gap."""
    assert CHART.columns == ("epoch", "one", "two")
    assert CHART.rows == (("0", "50% (40% to 60%)", "–"), ("1", "–", "60%"), ("2", "72%", "–"))


def test_text_stays_text_and_colours_follow_the_reader() -> None:
    """The drawing is well-formed, is styled for light and dark, and has no colour of its own."""
    svg = Drawings().svg(CHART).decode()
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314  # our own
    assert ">accuracy</text>" in svg
    assert ">one</text>" in svg
    assert "prefers-color-scheme:dark" in svg
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg))
    assert colours == set()
    assert "var(--ink)" in svg
    assert "var(--c0)" in svg


def test_a_chart_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at the same moment; another chart is another drawing, and the same data the same address."""
    drawn = []
    real = drawing.draw
    monkeypatch.setattr(drawing, "draw", lambda chart: drawn.append(chart) or real(chart))
    drawings = Drawings()
    with ThreadPoolExecutor(6) as pool:
        assert len({bytes(svg) for svg in pool.map(drawings.svg, [CHART] * 6)}) == 1
    assert len(drawn) == 1
    other = replace(CHART, title="Another")
    assert other.digest != CHART.digest == replace(CHART).digest
    drawings.svg(other)
    assert len(drawn) == 2


def test_a_version_has_its_charts() -> None:
    """Best-of-n beside the policy, four curves of PPO, and two of the reward model."""
    stored = report()
    reports = VersionReports(RewardReport.from_json(stored["reward"]), PPOReport.from_json(stored["ppo"]))
    charts = {chart.name: chart for chart in charts_of(reports)}
    expected = {"frontier", "policy-reward", "policy-kl", "policy-length", "policy-entropy"}
    assert set(charts) == expected | {"reward-loss", "reward-accuracy"}
    assert charts["frontier"].series[1].points == (Point(1.5, 0.61),)
    assert charts["policy-kl"].rows == (("1", "0.10"), ("2", "0.80"), ("3", "1.50"))
    assert charts["reward-accuracy"].rows == (("0", "70%"), ("1", "72%"))


def test_a_probe_alone_and_an_empty_run_have_no_curves() -> None:
    """One point is no curve, and a policy that wasn't trained has none."""
    stored = report()
    stored["reward"]["curve"] = stored["reward"]["curve"][:1]
    stored["ppo"] |= {"curve": (), "best_of_n": ()}
    reports = VersionReports(RewardReport.from_json(stored["reward"]), PPOReport.from_json(stored["ppo"]))
    assert charts_of(reports) == ()
    assert charts_of(VersionReports()) == ()


def test_a_line_s_versions_are_drawn_from_old_to_new() -> None:
    """The base has no figures and isn't drawn."""
    base, second = version(1), version(2, "rankloop.eggs-v1")
    third = version(3, second.name, reward_accuracy=0.75, reward_accuracy_low=0.7, reward_accuracy_high=0.8)
    view = view_line("eggs", LineFacts((base, second, third), (base.name,), (), read_opinions({})))
    chart = versions_chart(view.versions)
    assert chart is not None
    assert chart.rows == (("v2", "72% (63% to 80%)", "81%"), ("v3", "75% (70% to 80%)", "81%"))
    assert versions_chart(view_line("eggs", LineFacts((base,), (base.name,))).versions) is None


def test_the_leaderboard_is_drawn_best_first() -> None:
    """The best stands on top: its place is the last one. What is infinite isn't drawn."""
    board = read_opinions({"leaderboard": LEADERBOARD}).leaderboard
    chart = leaderboard_chart(board)
    assert chart is not None
    assert chart.labels == ("rankloop.eggs-v1", "rankloop.eggs-v2", "rankloop.eggs-v3")
    assert chart.rows[2] == ("rankloop.eggs-v3", "1.10 (0.41 to 1.79)", "0.80 (0.10 to 1.50)")
    endless = {"versions": [{"version": "a", "strength": float("inf"), "interval": [0.0, float("inf")]}]}
    chart = leaderboard_chart(read_opinions({"leaderboard": endless}).leaderboard)
    assert chart is not None
    assert chart.rows == (("a", "–"),)
    assert leaderboard_chart(None) is None
