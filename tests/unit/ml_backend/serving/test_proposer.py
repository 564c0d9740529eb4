"""The champion in service: loaded in the background, swapped atomically, reproducible, on time."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeRegistry

from ml_backend.serving.asked import Asked
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.version import LoadedVersion, load_version
from ml_backend.settings import load_settings

QUESTIONS = [(f"task {n}", f"How do I boil {n} eggs?") for n in range(6)]


def _until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for another thread to make a condition true."""
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, "the condition didn't become true"
        threading.Event().wait(0.01)


def _asked(proposer: Proposer, deadline_s: float = 30.0) -> Asked:
    return proposer.asked(until=time.monotonic() + deadline_s)


def _load(folders: dict[str, Path], base: Path, name: str) -> LoadedVersion:
    return load_version(name, folders[name], load_settings(model=str(base), device="cpu", max_new_tokens=12))


def test_the_base_becomes_champion_where_there_is_none(proposer: Proposer, registry: FakeRegistry) -> None:
    """The base is registered in an empty registry, and answers."""
    assert proposer.wait_until_loaded(30)
    assert registry.champion() is not None
    assert proposer.version == proposer.expected() == "rankloop-v1"
    pairs = _asked(proposer).propose(QUESTIONS)
    assert [pair.version for pair in pairs if pair] == ["rankloop-v1"] * 6


def test_nothing_is_answered_before_a_version_is_loaded(registry: FakeRegistry, settings: Any) -> None:
    """A proposer that was never started has no version, and says so at once."""
    proposer = Proposer(registry, settings)  # type: ignore[arg-type]
    assert proposer.version is None
    assert (proposer.expected(), proposer.expected("a")) == ("rankloop-loading", "rankloop.a-loading")
    assert _asked(proposer).propose(QUESTIONS) == [None] * 6
    assert _asked(proposer).log_odds([("a", "b")]) == [None]


def test_the_same_question_gets_the_same_pair(version_folders: dict[str, Path], tiny_model_dir: Path) -> None:
    """Key and version seed the answers: alone or in a batch, and in any order."""
    version = _load(version_folders, tiny_model_dir, "rankloop-v2")
    together = version.propose(QUESTIONS)
    assert _load(version_folders, tiny_model_dir, "rankloop-v2").propose(QUESTIONS) == together
    assert version.propose(QUESTIONS[::-1])[::-1] == together
    assert [version.propose([question])[0] for question in QUESTIONS] == together


def test_another_task_gets_another_pair(version_folders: dict[str, Path], tiny_model_dir: Path) -> None:
    """The same prompt in another task is sampled anew, so that two people see different answers from the policy."""
    version = _load(version_folders, tiny_model_dir, "rankloop-v1")
    pairs = version.propose([(f"task {n}", "What is tea?") for n in range(8)])
    assert len({(pair.answer1, pair.answer2) for pair in pairs}) == 8


def test_both_answers_differ_and_say_something(version_folders: dict[str, Path], tiny_model_dir: Path) -> None:
    """Empty and equal answers are sampled again."""
    version = _load(version_folders, tiny_model_dir, "rankloop-v1")
    assert not any(pair.flawed for pair in version.propose([(f"task {n}", "?") for n in range(64)]))


def test_which_answer_stands_left_is_chance(version_folders: dict[str, Path], tiny_model_dir: Path) -> None:
    """Of 400 pairs about half are swapped (within 4 standard deviations of 200)."""
    version = _load(version_folders, tiny_model_dir, "rankloop-v1")
    swapped = sum(
        version._shown(f"task {n}", ("first", False), ("second", False)).answer1 == "second" for n in range(400)
    )
    assert abs(swapped - 200) <= 40


def test_a_prompt_longer_than_the_model_reads_is_answered(
    version_folders: dict[str, Path], tiny_model_dir: Path
) -> None:
    """A prompt beyond the model's positions, an empty one, and lone surrogates get a pair like any other."""
    version = _load(version_folders, tiny_model_dir, "rankloop-v1")
    pairs = version.propose([("a", "word " * 500), ("b", ""), ("c", "half a letter: \ud83d"), ("d", "\x00")])
    assert not any(pair.flawed for pair in pairs)


def test_log_odds_are_the_reward_models(version_folders: dict[str, Path], tiny_model_dir: Path) -> None:
    """The served scores are exactly the reward model's scores of each answer by itself."""
    from training.models.load import load_causal_lm
    from training.models.reward import RewardModel

    version = _load(version_folders, tiny_model_dir, "rankloop-v2")
    answers = [("What is tea?", "Leaves."), ("What is tea?", "Leaves in hot water, and much besides.")]
    served = version.log_odds(answers)
    reward = RewardModel.load(version_folders["rankloop-v2"] / "reward", load_causal_lm(str(tiny_model_dir), "cpu"))
    alone = [float(reward.score_texts(version.codec, [prompt], [answer])[0]) for prompt, answer in answers]
    assert served == pytest.approx(alone, abs=1e-4)
    assert served[0] != served[1]
    assert all(math.isfinite(score) for score in served)


def test_a_new_champion_takes_over(proposer: Proposer, registry: FakeRegistry) -> None:
    """The version changes within the polling time, along with its reward model; a rollback reverts it."""
    assert proposer.wait_until_loaded(30)
    assert not _asked(proposer).judges
    registry.promote("rankloop-v2")
    _until(lambda: proposer.version == "rankloop-v2")
    asked = _asked(proposer)
    assert (asked.name, asked.judges) == ("rankloop-v2", True)
    (score,) = asked.log_odds([("a", "b")])
    assert score is not None
    assert math.isfinite(score)
    registry.promote("rankloop-v1")
    _until(lambda: proposer.version == "rankloop-v1")


def test_the_old_champions_memory_is_given_back(proposer: Proposer, registry: FakeRegistry) -> None:
    """After a swap nothing references the old model, even though it has answered."""
    assert proposer.wait_until_loaded(30)
    assert all(_asked(proposer).propose(QUESTIONS))
    current = proposer._slots["default"].current
    assert current is not None
    old = weakref.ref(current.sampler)
    del current
    registry.promote("rankloop-v2")
    _until(lambda: proposer.version == "rankloop-v2")
    assert all(_asked(proposer).propose(QUESTIONS))
    gc.collect()
    assert old() is None


def test_lines_share_what_is_equal(proposer: Proposer, registry: FakeRegistry) -> None:
    """Two lines at the base are one model under two names, whose answers differ by the name; a trained version shares
    the layers that training froze, and all of them answer for their own line.
    """
    registry.promote("rankloop.b-v2")
    for line in ("default", "a", "b"):
        assert proposer.wait_until_loaded(30, line)
    slots = {line: slot.current for line, slot in proposer._slots.items()}
    first, same, trained = slots["default"], slots["a"], slots["b"]
    assert first is not None
    assert same is not None
    assert trained is not None
    assert (first.name, same.name, trained.name) == ("rankloop-v1", "rankloop.a-v1", "rankloop.b-v2")
    assert same.sampler is first.sampler
    wte = proposer._base.transformer.wte.weight
    assert trained.sampler.model.transformer.wte.weight.data_ptr() == wte.data_ptr()
    until = time.monotonic() + 30
    pairs = {line: proposer.asked(until=until, line=line).propose(QUESTIONS) for line in slots}
    assert [{pair.version for pair in found if pair} for found in pairs.values()] == [
        {"rankloop-v1"},
        {"rankloop.a-v1"},
        {"rankloop.b-v2"},
    ]


def test_the_line_asked_longest_ago_gives_way(registry: FakeRegistry, settings: Any) -> None:
    """With room for two lines a third one pushes out the first; it is loaded again when it is asked, and its version is
    known all along.
    """
    registry.promote("rankloop.a-v2")
    proposer = Proposer(registry, settings.model_copy(update={"lines_in_memory": 2}))  # type: ignore[arg-type]
    proposer.start()
    try:
        for line in ("a", "b", "c"):
            assert proposer.wait_until_loaded(30, line)
        _until(lambda: proposer.loaded()["c"])
        assert proposer.loaded() == {
            "default": None,
            "a": None,
            "b": "rankloop.b-v1",
            "c": "rankloop.c-v1",
        }
        assert proposer.expected("a") == "rankloop.a-v2"
        _until(lambda: proposer.loaded()["a"] == "rankloop.a-v2")
        assert proposer.loaded()["b"] is None
    finally:
        proposer.stop()


def test_one_lines_fault_is_not_anothers(registry: FakeRegistry, proposer: Proposer, tmp_path: Path) -> None:
    """A damaged version on one line leaves the others answering."""
    registry.folders = {**registry.folders, "rankloop-v4": tmp_path / "gone"}
    registry.promote("rankloop.a-v4")
    assert not proposer.wait_until_loaded(30, "a")
    assert "gone" in str(proposer.fault_of("a"))
    assert proposer.wait_until_loaded(30)
    assert proposer.fault_of("default") is None
    assert all(_asked(proposer).propose(QUESTIONS))


def test_a_champion_that_cannot_be_loaded_changes_nothing(
    registry: FakeRegistry, proposer: Proposer, tmp_path: Path
) -> None:
    """The old version keeps answering, the fault is reported, and the next intact champion is loaded."""
    assert proposer.wait_until_loaded(30)
    registry.folders = {**registry.folders, "rankloop-v4": tmp_path / "gone"}
    registry.promote("rankloop-v4")
    _until(lambda: proposer.fault)
    assert "gone" in str(proposer.fault)
    assert proposer.version == "rankloop-v1"
    assert all(_asked(proposer).propose(QUESTIONS))
    registry.promote("rankloop-v2")
    _until(lambda: proposer.version == "rankloop-v2")
    _until(lambda: proposer.fault is None)


def test_a_registry_that_does_not_answer_is_asked_again(registry: FakeRegistry, settings: Any) -> None:
    """Waiting for the first version ends at once if it can't be loaded; once it can be, it is loaded."""
    registry.broken = "MLflow is away"
    proposer = Proposer(registry, settings)  # type: ignore[arg-type]
    proposer.start()
    try:
        assert not proposer.wait_until_loaded(30)
        assert proposer.fault == "MLflow is away."
        registry.broken = None
        _until(lambda: proposer.version == "rankloop-v1")
    finally:
        proposer.stop()


def test_what_does_not_fit_into_the_time_is_none(proposer: Proposer) -> None:
    """A caller without time gets None for every question, and the next one is answered."""
    assert proposer.wait_until_loaded(30)
    assert _asked(proposer, 0.0).propose(QUESTIONS) == [None] * 6
    assert all(_asked(proposer).propose(QUESTIONS))


def test_no_answer_mixes_versions_while_champions_change(proposer: Proposer, registry: FakeRegistry) -> None:
    """While the champion changes under many requests, each request's answers come from one version, the one named."""
    assert proposer.wait_until_loaded(30)
    stop = threading.Event()
    seen: list[list[Any]] = []

    def ask() -> None:
        while not stop.is_set():
            seen.append(_asked(proposer, 60).propose(QUESTIONS))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for name in ("rankloop-v2", "rankloop-v3", "rankloop-v1"):
            registry.promote(name)
            _until(lambda name=name: any(pairs[0].version == name for pairs in list(seen)))  # type: ignore[misc]
        stop.set()
        for future in asking:
            future.result()
    known: dict[str, list[Any]] = {}
    for pairs in seen:
        versions = {pair.version for pair in pairs}
        assert len(versions) == 1
        assert known.setdefault(versions.pop(), pairs) == pairs
    assert set(known) == {"rankloop-v1", "rankloop-v2", "rankloop-v3"}
