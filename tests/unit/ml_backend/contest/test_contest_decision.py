"""Decisions on challengers: what counts as an observation, both directions, and the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.contest.decision import decide, no_contest
from ml_backend.contest.meetings import Meeting, meetings_in
from training.data import JudgedAnswer, Judgement, Verdict

OLD, NEW = "rankloop-v1", "rankloop-v2"
VERDICTS = st.lists(st.sampled_from([Verdict.ANSWER1, Verdict.ANSWER2, Verdict.TIE]), max_size=60)


def _judgement(number: int, verdict: Verdict, *, left: str = NEW, right: str = OLD, person: str = "1") -> Judgement:
    """A verdict on the pair with this number; its answers are told apart by their versions."""
    one, other = (JudgedAnswer(f"{number} by {version}", version) for version in (left, right))
    return Judgement(f"prompt {number}", one, other, verdict, person, annotation_id=number)


def _decide(judgements: list[Judgement], **options: int) -> str:
    return decide(OLD, NEW, meetings_in(judgements), **{"most_pairs": 300, **options}).decision


def test_eight_wins_promote_and_eight_losses_reject() -> None:
    """Eight pairs in a row that all go one way decide, seven don't."""
    wins = [_judgement(n, Verdict.ANSWER1) for n in range(8)]
    assert _decide(wins[:7]) == "more"
    assert _decide(wins) == "promote"
    assert _decide([_judgement(n, Verdict.ANSWER2) for n in range(8)]) == "reject"


def test_it_does_not_matter_which_side_the_challenger_stood_on() -> None:
    """The challenger on the right wins with the right answer."""
    mixed = [
        _judgement(n, Verdict.ANSWER2, left=OLD, right=NEW) if n % 2 else _judgement(n, Verdict.ANSWER1)
        for n in range(8)
    ]
    found = decide(OLD, NEW, meetings_in(mixed), most_pairs=300)
    assert (found.decision, found.wins, found.losses, found.share) == ("promote", 8, 0, 1.0)


@given(VERDICTS)
def test_exchanging_the_versions_exchanges_the_decision(verdicts: list[Verdict]) -> None:
    """What promotes one version over another rejects the other over the one, as long as the limit isn't reached."""
    meetings = meetings_in([_judgement(n, verdict) for n, verdict in enumerate(verdicts)])
    there, back = (decide(*versions, meetings, most_pairs=300) for versions in ((OLD, NEW), (NEW, OLD)))
    assert back.decision == {"promote": "reject", "reject": "promote", "more": "more"}[there.decision]
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)
    assert (there.needed, there.votes) == (back.needed, back.votes)


def test_ten_people_on_one_pair_are_one_observation() -> None:
    """Many votes for one answer decide nothing, and half of them each way is a tie."""
    crowd = [_judgement(1, Verdict.ANSWER1, person=str(person)) for person in range(10)]
    found = decide(OLD, NEW, meetings_in(crowd), most_pairs=300)
    assert (found.decision, found.pairs, found.votes) == ("more", 1, 10)
    divided = [_judgement(1, verdict, person=str(verdict)) for verdict in (Verdict.ANSWER1, Verdict.ANSWER2)]
    assert decide(OLD, NEW, meetings_in(divided), most_pairs=300, votes_per_pair=2).ties == 1


def test_a_pair_counts_once_its_votes_are_there_and_never_changes() -> None:
    """With two votes a pair the first vote waits, the second fixes the score, and a third changes nothing."""
    votes = [
        _judgement(1, verdict, person=str(number))
        for number, verdict in enumerate((Verdict.ANSWER1, Verdict.TIE, Verdict.ANSWER2))
    ]
    first, second, third = (
        decide(OLD, NEW, meetings_in(votes[:n]), most_pairs=300, votes_per_pair=2) for n in (1, 2, 3)
    )
    assert (first.pairs, first.waiting, first.share) == (0, 1, None)
    assert (second.pairs, second.waiting, second.share) == (1, 0, 0.75)
    assert (third.pairs, third.share, third.votes) == (1, 0.75, 3)


def test_the_limit_ends_a_contest_that_cannot_tell() -> None:
    """After the last pair without a decision the champion stays."""
    even = [_judgement(n, (Verdict.ANSWER1, Verdict.ANSWER2)[n % 2]) for n in range(20)]
    assert _decide(even, most_pairs=21) == "more"
    found = decide(OLD, NEW, meetings_in(even), most_pairs=20)
    assert found.decision == "reject"
    assert "isn't shown to be better" in found.sentence


def test_the_sentence_says_who_how_many_and_what_follows() -> None:
    """A person reads both versions, the counts, and what is missing."""
    some = [_judgement(n, Verdict.ANSWER1 if n % 3 else Verdict.ANSWER2) for n in range(12)]
    found = decide(OLD, NEW, meetings_in(some), most_pairs=300)
    assert found.needed is not None
    for part in (OLD, NEW, "12 pairs", "preferred it in 8", "champion in 4", "67%", f"about {found.needed} more"):
        assert part in found.sentence
    assert no_contest(OLD).decision == "none"
    assert decide(OLD, NEW, [], most_pairs=300).sentence == f"{NEW} challenges {OLD}: no pair of the two is judged yet."


def test_the_document_is_plain_json() -> None:
    """Lists instead of tuples, with every field that a page shows."""
    found = decide(OLD, NEW, meetings_in([_judgement(1, Verdict.ANSWER1)]), most_pairs=300).document()
    assert isinstance(found["interval"], list)
    assert {"champion", "challenger", "pairs", "wins", "losses", "ties", "votes", "share", "decision", "needed"} < {
        *found
    }


@pytest.mark.parametrize(
    "judgement",
    [
        _judgement(1, Verdict.ANSWER1, left=OLD),
        _judgement(1, Verdict.BOTH_BAD),
        Judgement("p", JudgedAnswer("a", NEW), JudgedAnswer("b"), Verdict.ANSWER1, "1"),
        Judgement("p", JudgedAnswer("a", NEW, proposed="c"), JudgedAnswer("b", OLD), Verdict.ANSWER1, "1"),
    ],
    ids=["one version", "both bad", "unknown author", "rewritten"],
)
def test_what_says_nothing_about_two_versions_is_left_out(judgement: Judgement) -> None:
    """Pairs of one version, without an author, rewritten, or called bad altogether."""
    assert meetings_in([judgement]) == []


def test_votes_are_ordered_by_their_time() -> None:
    """The moment decides, not the order in which judgements are listed."""
    from dataclasses import replace

    from ml_backend.labels import read_moment

    late, early = (
        replace(_judgement(1, verdict, person=when), updated_at=f"2026-01-0{when}T00:00:00Z", annotation_id=None)
        for verdict, when in ((Verdict.ANSWER1, "2"), (Verdict.ANSWER2, "1"))
    )
    (meeting,) = meetings_in([late, early], read_moment)
    assert isinstance(meeting, Meeting)
    assert meeting.score_of(NEW, 1) == 0.0
