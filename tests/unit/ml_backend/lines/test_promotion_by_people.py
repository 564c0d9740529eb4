"""Challengers in a real MLflow on SQLite: one at a time, and what became of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_backend.contest import decide, meetings_in
from ml_backend.errors import RegistryError, SupersededError
from ml_backend.lines import judge_contest, put_forward, settle
from ml_backend.registry.records import Version
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings
from training.data import JudgedAnswer, Judgement, Verdict


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A registry whose default line has its base as champion."""
    registry = Registry(mlflow_settings)
    registry.ensure_base()
    return registry


@pytest.fixture
def make_version(registry: Registry, tmp_path: Path) -> Any:
    """Registers a small made-up version, as a cycle would."""

    def make(name: str) -> Version:
        folder = tmp_path / name
        (folder / "policy").mkdir(parents=True)
        (folder / "policy" / "model.safetensors").write_text(name)
        run_id = registry.start_cycle_run(7, name)
        return registry.register(folder, run_id=run_id, parent="rankloop-v1", metrics={}, tags={"kind": "cycle"})

    return make


def _fate(registry: Registry, name: str) -> tuple[str, str]:
    fate = registry.get(name).fate
    assert fate is not None
    return fate.fate, fate.why


def _verdicts(winner: str, loser: str, number: int) -> list[Judgement]:
    return [
        Judgement(f"p{n}", JudgedAnswer(f"{n}a", winner), JudgedAnswer(f"{n}b", loser), Verdict.ANSWER1, "1")
        for n in range(number)
    ]


def test_a_version_challenges_the_champion_until_people_promote_it(registry: Registry, make_version: Any) -> None:
    """Where people decide, the champion stays until their verdicts are enough; then the challenger replaces it."""
    name = make_version("a").name
    status, why = put_forward(registry, name, instead_of="rankloop-v1", people_decide=True)
    assert (status, why.startswith(f"{name} challenges rankloop-v1")) == ("challenger", True)
    challenger = registry.challenger()
    assert challenger is not None
    assert (challenger.name, challenger.fate, registry.current().name) == (name, None, "rankloop-v1")
    assert registry.line_states()[0].challenger == challenger
    assert name in registry.protected("default", 0)

    few, enough = (
        judge_contest(registry, "default", _verdicts(name, "rankloop-v1", n), votes=1, most=300) for n in (7, 8)
    )
    assert settle(registry, few) is False
    assert settle(registry, enough) is True
    assert (registry.current().name, registry.challenger()) == (name, None)
    assert _fate(registry, name) == ("promoted", enough.sentence)
    assert settle(registry, enough) is True  # repeated after an interruption: nothing changes


def test_a_worse_challenger_is_rejected_and_says_why(registry: Registry, make_version: Any) -> None:
    """The champion stays, the line has no challenger any more, and the version keeps the reason."""
    name = make_version("a").name
    registry.challenge(name, "rankloop-v1")
    found = judge_contest(registry, "default", _verdicts("rankloop-v1", name, 9), votes=1, most=300)
    assert settle(registry, found) is True
    assert (registry.current().name, registry.challenger()) == ("rankloop-v1", None)
    assert _fate(registry, name) == ("rejected", found.sentence)
    assert judge_contest(registry, "default", [], votes=1, most=300).decision == "none"


def test_a_newer_challenger_replaces_an_older_one(registry: Registry, make_version: Any) -> None:
    """The older one's contest is over, with its fate recorded, and verdicts on it decide nothing any more."""
    first, second = make_version("a").name, make_version("b").name
    registry.challenge(first, "rankloop-v1")
    registry.challenge(second, "rankloop-v1")
    registry.challenge(second, "rankloop-v1")  # repeated after an interruption
    challenger = registry.challenger()
    assert challenger is not None
    assert challenger.name == second
    assert _fate(registry, first)[0] == "replaced"
    late = decide("rankloop-v1", first, meetings_in(_verdicts(first, "rankloop-v1", 9)), most_pairs=300)
    assert settle(registry, late) is False
    assert registry.current().name == "rankloop-v1"


def test_whatever_a_person_decides_ends_a_contest(registry: Registry, make_version: Any) -> None:
    """Promoting the challenger or another version, rolling back, and ending it: each takes the challenge away."""
    one, two, three = (make_version(name).name for name in "abc")
    registry.challenge(one, "rankloop-v1")
    registry.promote(one)
    assert _fate(registry, one)[0] == "promoted"
    registry.challenge(two, one)
    registry.rollback()
    assert (_fate(registry, two)[0], registry.current().name, registry.challenger()) == ("ended", "rankloop-v1", None)
    registry.challenge(three, "rankloop-v1")
    registry.promote(two)
    assert (_fate(registry, three)[0], registry.challenger()) == ("ended", None)
    registry.challenge(three, two)
    registry.reject_challenger(three, two, "Enough.", by_hand=True)
    assert (_fate(registry, three), registry.challenger()) == (("ended", "Enough."), None)


def test_a_challenge_needs_the_champion_it_was_made_for(registry: Registry, make_version: Any) -> None:
    """A version that was trained from a champion of before isn't compared with the one of now, nor one with itself."""
    one, two = make_version("a").name, make_version("b").name
    registry.promote(one)
    with pytest.raises(SupersededError, match=f"champion is {one}"):
        registry.challenge(two, "rankloop-v1")
    assert put_forward(registry, two, instead_of="rankloop-v1", people_decide=True)[0] == "registered"
    with pytest.raises(RegistryError, match="is the champion"):
        registry.challenge(one, one)
    assert registry.challenger() is None


def test_the_promotion_step_can_be_repeated(registry: Registry, make_version: Any) -> None:
    """A worker that died right after the promotion does it again, and finds it done."""
    name = make_version("a").name
    registry.challenge(name, "rankloop-v1")
    for _ in range(2):
        assert registry.promote_challenger(name, "rankloop-v1", "It won.").name == name
    assert registry.current().name == name
    assert _fate(registry, name) == ("promoted", "It won.")
