"""Votes become preferences, whichever side the answers were on and whoever voted first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.types import Demonstration, JudgedAnswer, Judgement, Preference, PreferenceSource, Verdict
from training.data.votes import aggregate, agreement, dataset_digest, demonstrations_from, rewrites_from

JUDGEMENTS = st.builds(
    Judgement,
    prompt=st.sampled_from(["How?", "Why?"]),
    answer1=st.builds(JudgedAnswer, st.sampled_from(["a", "b", "c", " "]), st.sampled_from([None, "v1", "v2"])),
    answer2=st.builds(JudgedAnswer, st.sampled_from(["a", "b", "c", " "]), st.sampled_from([None, "v1", "v2"])),
    verdict=st.sampled_from(Verdict),
    annotator=st.sampled_from(["1", "2", "3"]),
    project_id=st.sampled_from([None, 1, 2]),
    task_id=st.integers(1, 3),
    annotation_id=st.integers(1, 99),
)


def judge(
    verdict: Verdict, *, left: str = "good", right: str = "bad", annotator: str = "1", number: int = 1
) -> Judgement:
    """One vote on a pair whose answers carry their versions."""
    return Judgement(
        prompt="How?",
        answer1=JudgedAnswer(left, f"wrote-{left}"),
        answer2=JudgedAnswer(right, f"wrote-{right}"),
        verdict=verdict,
        annotator=annotator,
        project_id=7,
        task_id=8,
        annotation_id=number,
        sides="shuffled",
    )


def test_votes_on_the_same_pair_become_one_preference_whichever_side_the_answers_stood() -> None:
    """Two votes for `good` (one left, one right) and one against make 2/3, with all sources kept."""
    votes = [
        judge(Verdict.ANSWER1, annotator="2", number=3),
        judge(Verdict.ANSWER2, left="bad", right="good", annotator="1", number=1),
        judge(Verdict.ANSWER2, annotator="3", number=2),
    ]
    source = PreferenceSource(7, 8, (1, 2, 3), "wrote-good", "wrote-bad", left_votes=1, right_votes=2)
    assert aggregate(votes) == [Preference("How?", "good", "bad", 2 / 3, 3, ("1", "2", "3"), source)]


def test_a_tie_counts_half_a_vote_for_each() -> None:
    """One win and one tie make 0.75; a tie alone, and a win against a loss, make 0.5."""
    win, tie, loss = judge(Verdict.ANSWER1), judge(Verdict.TIE), judge(Verdict.ANSWER2)
    assert [p.p_chosen for p in aggregate([win, tie])] == [0.75]
    assert [(p.p_chosen, p.is_tie) for p in aggregate([tie])] == [(0.5, True)]
    assert [(p.p_chosen, p.is_tie) for p in aggregate([win, loss])] == [(0.5, True)]


@pytest.mark.parametrize(
    "judgement",
    [
        judge(Verdict.BOTH_BAD),
        judge(Verdict.ANSWER1, right="good"),
        judge(Verdict.ANSWER2, right=" "),
        judge(Verdict.TIE, right=" "),
    ],
)
def test_judgements_that_rank_nothing_are_left_out(judgement: Judgement) -> None:
    """Both bad, identical texts and a blank answer that didn't lose give no preference."""
    assert aggregate([judgement]) == []


def test_a_blank_answer_can_lose() -> None:
    """People saw that an answer says nothing, and preferred the other."""
    (found,) = aggregate([judge(Verdict.ANSWER1, right="")])
    assert (found.chosen, found.rejected, found.p_chosen) == ("good", "", 1.0)


def test_a_rewrite_beats_what_it_was_written_over() -> None:
    """Whatever its fate against the other answer; the same rewrite by two people is one preference of two votes."""
    rewritten = JudgedAnswer("better", "v1", proposed="worse")
    votes = [
        Judgement("How?", rewritten, JudgedAnswer("other", "v1"), verdict, str(number), 7, 8, number)
        for number, verdict in enumerate((Verdict.ANSWER1, Verdict.ANSWER2), start=1)
    ]
    source = PreferenceSource(7, 8, (1, 2), None, "v1", rewrite=True)
    assert rewrites_from(votes) == [Preference("How?", "better", "worse", 1.0, 2, ("1", "2"), source)]
    for text, proposed in (("", "worse"), ("same  text", "same text"), ("unedited", None)):
        assert rewrites_from([replace(votes[0], answer1=JudgedAnswer(text, "v1", proposed))]) == []


def test_a_version_is_known_only_where_all_votes_agree_and_no_person_rewrote() -> None:
    """The same text by two versions, or a rewritten text, has no version as its author."""
    again = Judgement("How?", JudgedAnswer("good", "other"), JudgedAnswer("bad", "v1", "worse"), Verdict.ANSWER1, "2")
    source = aggregate([judge(Verdict.ANSWER1), again])[0].source
    assert (source.chosen_version, source.rejected_version, source.project_id) == (None, None, None)


@given(st.lists(JUDGEMENTS, max_size=12), st.randoms())
def test_aggregation_does_not_depend_on_order(judgements: list[Judgement], random) -> None:
    """Any shuffle gives the same preferences, and `chosen` never has the minority of the votes."""
    preferences = aggregate(judgements)
    random.shuffle(judgements)
    assert aggregate(judgements) == preferences
    assert all(0.5 <= p.p_chosen <= 1 and p.chosen != p.rejected for p in preferences)


@given(st.lists(JUDGEMENTS, max_size=12))
def test_every_vote_that_ranks_is_counted_once(judgements: list[Judgement]) -> None:
    """The votes of all preferences are the judgements of two different answers, of which a blank one can only lose."""

    def ranks(judgement: Judgement) -> bool:
        one, other = judgement.answer1.text, judgement.answer2.text
        blank = {Verdict.ANSWER1: other, Verdict.ANSWER2: one}.get(judgement.verdict, "")
        return judgement.verdict is not Verdict.BOTH_BAD and one != other and " " not in {one, other} - {blank}

    ranking = [judgement for judgement in judgements if ranks(judgement)]
    assert sum(p.votes for p in aggregate(judgements)) == len(ranking)


def test_a_second_verdict_on_a_pair_shown_again_is_no_second_vote() -> None:
    """The newest counts, and is one vote beside the other person's; without the mark all verdicts count, as ever."""
    first, other = judge(Verdict.ANSWER1), judge(Verdict.ANSWER1, annotator="2", number=2)
    again = replace(judge(Verdict.ANSWER1, left="bad", right="good", number=3), sides=None, repeat=True)
    for order in ([first, other, again], [again, other, first]):
        (preference,) = aggregate(order)
        assert (preference.votes, preference.p_chosen) == (2, 0.5)
        assert preference.source.annotation_ids == (2, 3)
    assert aggregate([first, other, replace(again, repeat=False)])[0].votes == 3


def test_agreement_is_the_share_of_agreeing_twosomes() -> None:
    """With two of three people agreeing, one of three pairs of votes agrees; a single person gives None."""
    votes = [judge(Verdict.ANSWER1, annotator=str(n)) for n in (1, 2)] + [judge(Verdict.TIE, annotator="3")]
    assert agreement(votes) == pytest.approx(1 / 3)
    assert agreement(votes[:1]) is None
    assert agreement([votes[0], votes[0]]) is None


def test_rewritten_answers_become_demonstrations_unless_they_lost() -> None:
    """A rewritten answer that was chosen or tied is imitated; one that lost or was judged bad isn't."""
    rewritten = JudgedAnswer("better", "v1", proposed="worse")
    other = JudgedAnswer("other", "v1")

    def verdict(value: Verdict) -> list[Demonstration]:
        return demonstrations_from([Judgement("How?", other, rewritten, value, "1")] * 2)

    assert verdict(Verdict.ANSWER2) == verdict(Verdict.TIE) == [Demonstration("How?", "better")]
    assert verdict(Verdict.ANSWER1) == verdict(Verdict.BOTH_BAD) == []


def test_the_digest_sees_texts_and_votes_only() -> None:
    """Order and sources don't change the digest; a text, a share or a count does."""
    one, two = Preference("p", "a", "b"), Preference("p", "c", "d", 0.75, 2)
    assert dataset_digest([one, two]) == dataset_digest([two, one])
    assert dataset_digest([one]) == dataset_digest([Preference("p", "a", "b", annotators=("9",))])
    variants = [one, Preference("p", "b", "a"), Preference("p", "a", "b", 0.9), Preference("p", "a", "b", 1.0, 2)]
    assert len({dataset_digest([variant]) for variant in variants} | {dataset_digest([one, one])}) == 5
