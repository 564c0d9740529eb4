"""The demo's figures: how wins are counted, and the contents of the report file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_backend.demo.evaluation import FreshAnswers, Shares, compare
from ml_backend.demo.loop import telling_pairs
from ml_backend.demo.report import COLUMNS, BeforeAndAfter, DemoReport, base_figures, trained_figures
from ml_backend.registry.records import Version

PROMPTS = ["a", "b"]


def _answers(*texts: str) -> FreshAnswers:
    return FreshAnswers(texts, answer_tokens=4.0, cut=(False,) * len(texts))


def _longer(_prompt: str, answer1: str, answer2: str) -> Any:
    if len(answer1) == len(answer2):
        return "tie"
    return "1" if len(answer1) > len(answer2) else "2"


def _left(_prompt: str, _answer1: str, _answer2: str) -> Any:
    return "1"


def _version(number: int, metrics: dict[str, float]) -> Version:
    return Version(number, f"rankloop-v{number}", "default", "run", None, metrics, {}, 0.0)


def test_wins_losses_and_ties_are_told_apart() -> None:
    """Two wins, one loss and one tie: 2/3 preferred, 1/4 tied, whichever side the answers were shown on."""
    ours, theirs = _answers("long", "long", "x", "same"), _answers("no", "no", "long", "four")
    assert compare(PROMPTS, ours, theirs, _longer) == Shares(2 / 3, 0.25)
    assert compare(PROMPTS, theirs, ours, _longer) == Shares(1 / 3, 0.25)


def test_a_taste_for_one_side_decides_nothing() -> None:
    """Sides alternate, so always choosing the left one gives one half."""
    answers = _answers("a", "b", "c", "d")
    assert compare(PROMPTS, answers, answers, _left) == Shares(0.5, 0.0)


def test_nothing_but_ties_is_one_half() -> None:
    """If nothing wins or loses, neither is preferred."""
    answers = _answers("a", "b", "c", "d")
    assert compare(PROMPTS, answers, answers, _longer) == Shares(0.5, 1.0)


def test_the_prompt_of_each_answer_is_its_own() -> None:
    """Answers are grouped by prompt."""
    seen = []

    def note(prompt: str, answer1: str, answer2: str) -> Any:
        seen.append((prompt, {answer1, answer2}))
        return "tie"

    compare(PROMPTS, _answers("a1", "a2", "b1", "b2"), _answers("A1", "A2", "B1", "B2"), note)
    assert seen == [("a", {"a1", "A1"}), ("a", {"a2", "A2"}), ("b", {"b1", "B1"}), ("b", {"b2", "B2"})]


def test_the_report_holds_what_others_read(tmp_path: Path) -> None:
    """The base comes first with 0.5 by definition; figures it doesn't have are null."""
    metrics = {
        "annotations": 120.0,
        "reward_accuracy": 0.75,
        "reward_accuracy_low": 0.6,
        "reward_accuracy_high": 0.85,
        "kl_nats": 9.5,
        "win_rate_vs_base": 0.9,
    }
    base = base_figures(_version(1, {}), FreshAnswers(("One, two!", "two"), 4.0, (True, False)), Shares(0.48, 0.2))
    trained = trained_figures(_version(2, metrics), _answers("b"), Shares(0.8, 0.1))
    report = DemoReport(
        [base, trained],
        {"rankloop-v1": 300, "rankloop-v2": 180},
        {"start": 1.234, "total": 5.0},
        model="smollm2",
        chat_template=True,
        examples=[BeforeAndAfter("q", "old", "new")],
    )
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content == {
        "model": "smollm2",
        "chat_template": True,
        "examples": [{"prompt": "q", "before": "old", "after": "new"}],
        "versions": [
            {
                "version": "rankloop-v1",
                "annotations": 0,
                "reward_accuracy": None,
                "reward_accuracy_interval": None,
                "kl_nats": 0.0,
                "win_rate_vs_base": 0.5,
                "answer_tokens": 4.0,
                "preferred_share": 0.5,
                "tie_share": 0.2,
                "distinct_words": 2,
                "cut_share": 0.5,
            },
            {
                "version": "rankloop-v2",
                "annotations": 120,
                "reward_accuracy": 0.75,
                "reward_accuracy_interval": [0.6, 0.85],
                "kl_nats": 9.5,
                "win_rate_vs_base": 0.9,
                "answer_tokens": 4.0,
                "preferred_share": 0.8,
                "tie_share": 0.1,
                "distinct_words": 1,
                "cut_share": 0.0,
            },
        ],
        "predictions_by_version": {"rankloop-v1": 300, "rankloop-v2": 180},
        "seconds": {"start": 1.2, "total": 5.0},
    }
    assert report.rows() == [
        ("rankloop-v1", "0", "-", "0.0", "50%", "50%", "20%", "4.0", "2"),
        ("rankloop-v2", "120", "75% (60% to 85%)", "9.5", "90%", "80%", "10%", "4.0", "1"),
    ]
    assert all(len(row) == len(COLUMNS) for row in report.rows())


def test_two_tastes_have_a_line_each(tmp_path: Path) -> None:
    """Under `lines` stands each line's champion with its share under its own taste; the rest is the first project's."""
    reports = []
    for line, share in (("project-1", 0.9), ("project-2", 0.85)):
        metrics = dict.fromkeys(
            ["annotations", "reward_accuracy_low", "reward_accuracy_high", "kl_nats", "win_rate_vs_base"], 0.5
        )
        version = replace(_version(2, metrics), name=f"rankloop.{line}-v2", line=line)
        rows = [trained_figures(version, _answers("b"), Shares(share, 0.0))]
        reports.append(DemoReport(rows, {version.name: 7}, {"total": 1.0}, model="tiny", chat_template=False))
    report = replace(reports[0], second=reports[1])
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["versions"] == content["lines"][0]["versions"]
    assert [(line["champion"], line["preferred_share"]) for line in content["lines"]] == [
        ("rankloop.project-1-v2", 0.9),
        ("rankloop.project-2-v2", 0.85),
    ]
    assert [row[0] for row in report.rows()] == ["rankloop.project-1-v2", "rankloop.project-2-v2"]


def test_examples_begin_with_what_the_taste_prefers() -> None:
    """One of each question, the preferred ones first; blank and cut answers only if there is nothing else."""
    before = FreshAnswers(("aaaa", "-", "bb", "-", "cc", "-", "dd", "-"), 1.0, (False,) * 8)
    after = FreshAnswers(("a", "-", "bbbb", "-", "", "-", "dddd", "-"), 1.0, (False,) * 6 + (True, False))
    found = telling_pairs(["p", "q", "r", "s"], before, after, _longer)
    assert [(pair.prompt, pair.after) for pair in found] == [("q", "bbbb"), ("p", "a"), ("r", ""), ("s", "dddd")]
