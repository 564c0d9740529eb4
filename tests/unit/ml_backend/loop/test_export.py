"""Preferences from exports: the kind is inferred from results, every annotation counted, broken files named."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ml_backend.labels.config import parse_label_config
from ml_backend.labels.infer import infer_label_config
from ml_backend.loop.dataset import export_preferences, read_export_file
from training.data.files import read_preferences
from training.errors import DataError

ROOT = Path(__file__).parents[4]


def _task(number: int, data: dict[str, Any], *results: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    annotations = [
        {"id": 100 * number + k, "completed_by": k, "was_cancelled": False, "result": result, **fields}
        for k, result in enumerate(results)
    ]
    return {"id": number, "project": 5, "data": data, "annotations": annotations}


def _live(answer1: str, answer2: str, verdict: str, names: tuple[str, ...] = ("answer1", "answer2", "verdict")) -> Any:
    def area(name: str, text: str) -> dict[str, Any]:
        return {"type": "textarea", "from_name": name, "to_name": "prompt", "value": {"text": [text]}}

    choice = {"type": "choices", "from_name": names[2], "to_name": "prompt", "value": {"choices": [verdict]}}
    return [area(names[0], answer1), area(names[1], answer2), choice]


def _pairwise(selected: str, control: str = "comparison") -> list[dict[str, Any]]:
    return [{"type": "pairwise", "from_name": control, "to_name": control, "value": {"selected": selected}}]


def test_live_export_without_a_config(tmp_path: Path) -> None:
    """One vote, one tie, one skip and one unknown verdict are each counted correctly."""
    tasks = [
        _task(1, {"prompt": "tea?"}, _live("good", "bad", "answer1")),
        _task(2, {"prompt": "egg?"}, _live("one", "two", "tie")),
        _task(3, {"prompt": "ham?"}, [], was_cancelled=True),
        _task(4, {"prompt": "jam?"}, _live("one", "two", "banana")),
    ]
    summary = export_preferences(tasks, tmp_path / "deep" / "out.jsonl")
    assert asdict(summary) == {
        "annotations": 4,
        "kept": 2,
        "ties": 1,
        "skipped": 1,
        "edited": 0,
        "dropped": {"unknown_verdict": 1},
        "preferences": 2,
        "rewrites": 0,
        "ground_truth": 0,
        "unknown_verdicts": {"banana": 1},
        "drafts": 0,
        "completions": 0,
    }
    egg, tea = read_preferences(tmp_path / "deep" / "out.jsonl")
    assert (tea.prompt, tea.chosen, tea.rejected, tea.p_chosen) == ("tea?", "good", "bad", 1.0)
    assert egg.is_tie
    assert tea.source.project_id == 5


def test_pairwise_export_of_label_studios_own_template(tmp_path: Path) -> None:
    """Left means answer1; anything that is neither side is counted, not read as right."""
    data = {"prompt": "tea?", "answer1": "leaves", "answer2": "stones"}
    tasks = [_task(1, data, _pairwise("left"), _pairwise("banana"), [])]
    summary = export_preferences(tasks, tmp_path / "out.jsonl")
    assert (summary.kept, summary.dropped) == (1, {"empty": 1, "unknown_verdict": 1})
    assert read_preferences(tmp_path / "out.jsonl")[0].chosen == "leaves"


def test_names_of_one_s_own_are_read_where_they_name_sides() -> None:
    """An export whose tags have other names is understood, as far as these say what is what."""
    tasks = [
        _task(1, {"question": "tea?", "response_b": "no", "response_a": "yes", "meta": "x"}, _pairwise("left", "pw"))
    ]
    config = infer_label_config(tasks)
    assert (config.kind, config.control, config.prompt_key) == ("pairwise", "pw", "question")
    assert [field.key for field in config.answers] == ["response_a", "response_b"]

    live = infer_label_config([_task(1, {"question": "tea?"}, _live("a", "b", "Left", ("left", "right", "better")))])
    assert (live.kind, live.control, live.prompt_key) == ("live", "better", "question")
    assert [field.name for field in live.answers] == ["left", "right"]


def test_ranker_export(tmp_path: Path) -> None:
    """A ranking of three answers gives three preferences, with the better answer always chosen."""
    items = [{"id": name, "title": name, "body": f"answer {name}"} for name in "abc"]
    result = [
        {"type": "ranker", "from_name": "rank", "to_name": "answers", "value": {"ranker": {"rank": ["b", "c", "a"]}}}
    ]
    summary = export_preferences([_task(1, {"prompt": "tea?", "items": items}, result)], tmp_path / "out.jsonl")
    assert (summary.kept, summary.preferences) == (1, 3)
    pairs = {(p.chosen[-1], p.rejected[-1]) for p in read_preferences(tmp_path / "out.jsonl")}
    assert pairs == {("b", "c"), ("b", "a"), ("c", "a")}


@pytest.mark.parametrize("name", ["label_config.xml", "label_configs/pairwise.xml", "label_configs/ranker.xml"])
def test_inference_agrees_with_our_own_configs(name: str) -> None:
    """For exports made with the packaged configs, the right kind, control and keys are inferred."""
    results = {
        "live": ({"prompt": "tea?"}, _live("a", "b", "answer1")),
        "pairwise": ({"prompt": "tea?", "answer1": "a", "answer2": "b"}, _pairwise("right")),
        "ranker": (
            {"prompt": "tea?", "items": [{"id": "x", "body": "a"}, {"id": "y", "body": "b"}]},
            [{"type": "ranker", "from_name": "rank", "to_name": "answers", "value": {"ranker": {"rank": ["x", "y"]}}}],
        ),
    }
    config = parse_label_config((ROOT / name).read_text(encoding="utf-8"))
    data, result = results[config.kind]
    inferred = infer_label_config([_task(1, data, result)])
    assert (inferred.kind, inferred.control, inferred.prompt_key) == (config.kind, config.control, config.prompt_key)
    assert [field.name for field in inferred.answers] == [field.name for field in config.answers]


def test_an_export_without_annotations_gives_no_preferences(tmp_path: Path) -> None:
    """It says so, and writes no file."""
    assert "no annotations" in str(export_preferences([], tmp_path / "out.jsonl").nothing_found())
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"id": 1,', "isn't valid JSON"),
        (b'{"tasks": []}', "isn't an export"),
        (b"[1]", "isn't an export"),
        (b'["\xe9"]', "is not UTF-8 text"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    """The error says which file and what is wrong with it."""
    path = tmp_path / "export.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_export_file(path)
    assert str(path) in str(caught.value)
