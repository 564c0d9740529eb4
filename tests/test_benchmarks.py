"""The benchmark's parts: equal work for all, floors worked out by hand, turns, and saved results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import floor, report, workload
from benchmarks.contestant import Contestant


def test_the_work_is_what_the_tables_say() -> None:
    """16 prompts of 14 to 44 tokens; sequences of 30 to 70 tokens, 50 on average; reproducible."""
    prompts = workload.proposal_prompts()
    assert [len(prompt) for prompt in prompts] == list(range(14, 45, 2))
    assert prompts == workload.proposal_prompts()
    pairs = workload.pairs()
    lengths = [len(f"{pair.prompt} {answer}".split()) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    assert len(pairs) == 64
    assert min(lengths) >= 30
    assert max(lengths) <= 70
    assert sum(lengths) / len(lengths) == pytest.approx(50, abs=2)


def test_floors_are_the_arithmetic_at_the_measured_speed() -> None:
    """A block has 12 * 768^2 = 7,077,888 weights. A reward step runs 9 of them forward once in 6 epochs (18 / 6 = 3
    operations per weight and token) and 3 of them forward and backward (18)."""
    limits = floor.Limits(gflops=100.0, read_gb_s=1e9, bytes_per_weight=2)
    assert floor.reward_step(limits, tokens=1600) == pytest.approx(21 * 7_077_888 * 1600 / 100e9)
    weights = 12 * 7_077_888 + 768 * 50257
    decoding = floor.propose(limits)
    prefill = 2 * (12 * 7_077_888 * sum(range(14, 45, 2)) + 768 * 50257 * 16) / 100e9
    assert decoding == pytest.approx(prefill + 49 * 2 * weights * 32 / 100e9)
    slow_memory = floor.Limits(gflops=1e9, read_gb_s=1.0, bytes_per_weight=2)
    assert floor.propose(slow_memory) > 49 * 2 * weights / 1e9
    assert floor.ppo_iteration(limits) > 4 * 6 * 8 * 7_077_888 * 1280 / 100e9


def test_everybody_takes_turns(tmp_path: Path) -> None:
    """A process waits for its turn and reports seconds per whole unit; what it prints doesn't interfere."""
    script = tmp_path / "quarter.py"
    script.write_text(
        "from benchmarks.turns import Turns\n"
        "turns = Turns()\n"
        "print('a library prints this')\n"
        "turns.serve(lambda: {'made': 5}, units=0.25)\n"
    )
    log = tmp_path / "log"
    one = Contestant("quarter", Path(sys.executable), [str(script)])
    one.start(log)
    first, second = one.turn(log), one.turn(log)
    one.stop()
    assert first["made"] == second["made"] == 5
    assert one.seconds() == [second["seconds"]]
    assert one.peak_mb() > 1
    assert "a library prints this" in log.read_text()


def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    """The error names the log, which holds the traceback."""
    one = Contestant("nobody", Path(sys.executable), ["-m", "benchmarks.nobody"])
    with pytest.raises(RuntimeError, match=r"nobody exited early; .*log"):
        one.start(tmp_path / "log")
    one.stop()
    assert "No module named" in (tmp_path / "log").read_text()


def test_new_figures_take_the_place_of_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of parts that weren't measured stay; the page keeps the text above the mark."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "latest.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    report.merge({"reward_vs_trl": 2.0, "details": {"learned": {"text": "## What is learned"}}})
    report.merge({"propose_over_floor": 1.5, "details": {"propose": _measured()}})
    results = json.loads((tmp_path / "latest.json").read_bytes())
    assert results["reward_vs_trl"] == 2.0
    assert results["propose_over_floor"] == 1.5
    (tmp_path / "benchmarks.md").write_text(f"# Benchmarks\n\nSaid by people.\n\n{report._MARK}\nold", encoding="utf-8")
    report.write_page()
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "Said by people." in page
    assert "old" not in page
    assert "| CTranslate2, int8 | 3.00 | 2.00–4.00 | 1.5× | 9 |" in page
    assert "## What is learned" in page


def _measured() -> dict[str, Any]:
    return {
        "seconds": {"propose": [2.0, 2.0], "ctranslate2_int8": [2.0, 4.0]},
        "peak_mb": {"propose": 5.0, "ctranslate2_int8": 9.0},
        "floor_s": 1.0,
        "limits": {"gflops_fp32": 1.0, "gflops_bf16": 2.0, "read_gb_s": 3.0},
        **report.circumstances(),
    }
