"""Bradley-Terry strengths of versions: hand-worked, adjusted for length, and how few votes turn the first place."""

from __future__ import annotations

import math

import pytest

from ml_backend.contest.leaderboard import rank_versions
from ml_backend.contest.meetings import Meeting

A, B, C = "rankloop-v1", "rankloop-v2", "rankloop-v10"


def _met(
    one: str, other: str, wins: int, losses: int, ties: int = 0, lengths: tuple[int, int] = (50, 50)
) -> list[Meeting]:
    votes = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Meeting(one, other, f"{one} {other} {n} {lengths}", (vote,), lengths) for n, vote in enumerate(votes)]


def test_two_versions_are_apart_by_the_odds() -> None:
    """30 of 40 pairs are odds of 3 to 1, up to the weak prior; the reference is 0."""
    board = rank_versions(_met(A, B, 10, 30), bootstraps=100)
    first, second = board.versions
    assert (first.version, second.version, board.reference) == (B, A, A)
    assert first.strength == pytest.approx(math.log(3), abs=0.02)
    assert (second.strength, second.interval) == (0.0, (0.0, 0.0))
    assert first.interval[0] < math.log(3) < first.interval[1]
    assert (first.pairs, first.votes) == (40, 40)


def test_ties_count_half_and_a_crowd_counts_once() -> None:
    """Ties alone are equal strengths; ten votes on one pair weigh as much as one."""
    assert rank_versions(_met(A, B, 0, 0, 9), bootstraps=5).versions[1].strength == pytest.approx(0, abs=1e-6)
    crowd = Meeting(A, B, "crowd", (0.0,) * 10, (50, 50))
    board = rank_versions([*_met(A, B, 1, 0), crowd], bootstraps=5)
    assert max(place.strength for place in board.versions) == pytest.approx(0, abs=1e-4)
    assert board.versions[0].votes == 11


def test_strengths_add_up_along_a_chain() -> None:
    """C beats B 3 to 1 and B beats A 3 to 1, so C beats A 9 to 1 although they never met."""
    board = rank_versions([*_met(A, B, 50, 150), *_met(C, B, 150, 50)], bootstraps=5)
    assert [place.version for place in board.versions] == [C, B, A]
    assert board.versions[0].strength == pytest.approx(math.log(9), abs=0.03)


def test_a_version_that_never_lost_has_a_finite_strength() -> None:
    """The prior keeps it finite."""
    assert 2 < rank_versions(_met(A, B, 0, 20), bootstraps=5).versions[0].strength < 8


def test_length_is_taken_out() -> None:
    """The longer answer is preferred 3 to 1, whoever wrote it. B writes more of those, so it wins 35 of 60 pairs, and
    none of that is left between answers of equal length.
    """
    longer, shorter = _met(A, B, 10, 30, lengths=(50, 150)), _met(A, B, 15, 5, lengths=(150, 50))
    board = rank_versions([*longer, *shorter], bootstraps=5)
    assert board.versions[0].version == B
    assert board.versions[0].strength == pytest.approx(math.log(35 / 25), abs=0.01)
    assert board.versions[0].length_adjusted == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("wins", "losses", "turned"), [(6, 4, 2), (5, 4, 1), (10, 0, 6)])
def test_how_few_votes_turn_the_first_place(wins: int, losses: int, turned: int) -> None:
    """With one vote a pair it is more than half of the lead."""
    board = rank_versions(_met(B, A, wins, losses), bootstraps=5)
    assert board.versions[0].version == B
    assert board.votes_to_turn == turned


def test_the_rival_that_is_closest_counts() -> None:
    """C is first, far before A and just before B: two votes between C and B are enough."""
    board = rank_versions([*_met(C, A, 40, 5), *_met(C, B, 11, 9), *_met(B, A, 40, 5)], bootstraps=5)
    assert (board.versions[0].version, board.votes_to_turn) == (C, 2)


def test_versions_that_nothing_connects_are_named() -> None:
    """The larger group is ranked, the other versions are listed in the sentence."""
    board = rank_versions([*_met(A, B, 3, 2), *_met("rankloop-v7", "rankloop-v8", 1, 1)], bootstraps=5)
    assert {place.version for place in board.versions} == {A, B}
    assert board.unconnected == ("rankloop-v7", "rankloop-v8")
    assert "rankloop-v7" in board.sentence


def test_without_a_pair_there_is_a_sentence() -> None:
    """An empty leaderboard says why."""
    board = rank_versions([])
    assert (board.versions, board.votes_to_turn) == ((), None)
    assert "Nobody has judged" in board.sentence
    assert board.document()["versions"] == ()


def test_strengths_are_those_of_another_implementation() -> None:
    """evalica's Bradley-Terry scores, by minorisation, are the exponentials of ours where the prior weighs little."""
    import evalica

    met = [*_met(A, B, 300, 500), *_met(B, C, 350, 450), *_met(A, C, 200, 600)]
    xs, ys = [meeting.one for meeting in met], [meeting.other for meeting in met]
    winners = [evalica.Winner.X if meeting.votes[0] else evalica.Winner.Y for meeting in met]
    scores = evalica.bradley_terry(xs, ys, winners, tolerance=1e-12, limit=10_000).scores
    found = {place.version: place.strength for place in rank_versions(met, bootstraps=5).versions}
    for version in (B, C):
        assert found[version] == pytest.approx(math.log(scores[version] / scores[A]), abs=0.005)
