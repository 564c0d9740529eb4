"""Votes become preferences: aggregation, frozen split, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.types import (
    Demonstration,
    JudgedAnswer,
    Judgement,
    Preference,
    PreferenceSource,
    PromptRecord,
    Split,
    Verdict,
)
from training.data.votes import (
    aggregate,
    agreement,
    dataset_digest,
    demonstrations_from,
    read_demonstrations,
    read_preferences,
    read_prompts,
    split_of,
    write_demonstrations,
    write_preferences,
    write_prompts,
)
from training.errors import DataError

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
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
    )


def test_votes_on_the_same_pair_become_one_preference_whichever_side_the_answers_stood() -> None:
    """Two votes for `good` (once left, once right) and one against make 2/3, with all sources kept."""
    votes = [
        judge(Verdict.ANSWER1, annotator="2", number=3),
        judge(Verdict.ANSWER2, left="bad", right="good", annotator="1", number=1),
        judge(Verdict.ANSWER2, annotator="3", number=2),
    ]
    source = PreferenceSource(7, 8, (1, 2, 3), "wrote-good", "wrote-bad")
    assert aggregate(votes) == [Preference("How?", "good", "bad", 2 / 3, 3, ("1", "2", "3"), source)]


def test_a_tie_counts_half_a_vote_for_each() -> None:
    """One win and one tie make 0.75; a tie alone, and a win against a loss, make 0.5."""
    win, tie, loss = judge(Verdict.ANSWER1), judge(Verdict.TIE), judge(Verdict.ANSWER2)
    assert [p.p_chosen for p in aggregate([win, tie])] == [0.75]
    assert [(p.p_chosen, p.is_tie) for p in aggregate([tie])] == [(0.5, True)]
    assert [(p.p_chosen, p.is_tie) for p in aggregate([win, loss])] == [(0.5, True)]


@pytest.mark.parametrize(
    "judgement",
    [judge(Verdict.BOTH_BAD), judge(Verdict.ANSWER1, right="good"), judge(Verdict.ANSWER1, right=" ")],
)
def test_judgements_that_rank_nothing_are_left_out(judgement: Judgement) -> None:
    """Both bad, the same text twice and a blank answer make no preference."""
    assert aggregate([judgement]) == []


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
    """The votes of all preferences are the judgements that rank two different, non-blank answers."""
    ranking = [
        j for j in judgements if j.verdict is not Verdict.BOTH_BAD and len({j.answer1.text, j.answer2.text, " "}) == 3
    ]
    assert sum(p.votes for p in aggregate(judgements)) == len(ranking)


def test_agreement_is_the_share_of_agreeing_twosomes() -> None:
    """Three people, two of one mind: one of three twosomes agrees. One person alone has nobody to agree with."""
    votes = [judge(Verdict.ANSWER1, annotator=str(n)) for n in (1, 2)] + [judge(Verdict.TIE, annotator="3")]
    assert agreement(votes) == pytest.approx(1 / 3)
    assert agreement(votes[:1]) is None
    assert agreement([votes[0], votes[0]]) is None


def test_rewritten_answers_become_demonstrations_unless_they_lost() -> None:
    """A rewritten answer that was chosen or tied is imitated; one that lost, or was called bad, is not."""
    rewritten = JudgedAnswer("better", "v1", proposed="worse")
    other = JudgedAnswer("other", "v1")

    def verdict(value: Verdict) -> list[Demonstration]:
        return demonstrations_from([Judgement("How?", other, rewritten, value, "1")] * 2)

    assert verdict(Verdict.ANSWER2) == verdict(Verdict.TIE) == [Demonstration("How?", "better")]
    assert verdict(Verdict.ANSWER1) == verdict(Verdict.BOTH_BAD) == []


def test_the_split_of_known_prompts_never_changes() -> None:
    """These prompts were given their places once; a change here would move tested prompts into training."""
    expected = {"train": {0, 4, 7, 8, 9, 11}, "selection": {2, 10}, "test": {1, 3, 5, 6}}
    for split, numbers in expected.items():
        assert {number for number in range(12) if split_of(f"prompt {number}") == split} == numbers


def test_the_split_has_its_shares() -> None:
    """Of 10,000 prompts, 70%, 15% and 15% land in the three parts, within three standard deviations."""
    found = [split_of(f"question number {number}") for number in range(10_000)]
    assert found.count(Split.TRAIN) == pytest.approx(7000, abs=140)
    assert found.count(Split.SELECTION) == pytest.approx(1500, abs=108)


@given(st.text(), st.sampled_from(["\n", "  ", "\t"]))
def test_layout_does_not_move_a_prompt(prompt: str, space: str) -> None:
    """Extra whitespace around and between words leaves the split as it was."""
    assert split_of(space + space.join(prompt.split()) + space) == split_of(prompt)


def test_the_digest_sees_texts_and_votes_only() -> None:
    """Order and sources don't change the digest; a text, a share or a count does."""
    one, two = Preference("p", "a", "b"), Preference("p", "c", "d", 0.75, 2)
    assert dataset_digest([one, two]) == dataset_digest([two, one])
    assert dataset_digest([one]) == dataset_digest([Preference("p", "a", "b", annotators=("9",))])
    variants = [one, Preference("p", "b", "a"), Preference("p", "a", "b", 0.9), Preference("p", "a", "b", 1.0, 2)]
    assert len({dataset_digest([variant]) for variant in variants} | {dataset_digest([one, one])}) == 5


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS).filter(lambda t: t[1] != t[2]), max_size=5), st.floats(0.5, 1))
def test_preferences_come_back_as_they_were_written(tmp_path_factory, rows, share: float) -> None:
    """Any text, also with line separators inside, survives the file."""
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    source = PreferenceSource(1, 2, (3, 4), "rankloop-v1", None)
    preferences = [Preference(p, c, r, share, 3, ("1", "2"), source) for p, c, r in rows]
    write_preferences(path, preferences)
    assert read_preferences(path) == preferences


def test_plain_trl_rows_are_read(tmp_path: Path) -> None:
    """prompt, chosen and rejected are enough; blank lines and a byte order mark don't matter."""
    path = tmp_path / "trl.jsonl"
    path.write_text('\ufeff{"prompt": "p", "chosen": "a", "rejected": "b"}\n\n', encoding="utf-8")
    assert read_preferences(path) == [Preference("p", "a", "b")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p", "chosen": "a"}, '"rejected"'),
        ({"prompt": "p", "chosen": "a", "rejected": 3}, "3"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "blank"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "the same text"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": 0.2}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": float("nan")}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": True}, "from 0.5 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "votes": 0}, "from 1 up"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "annotators": [1]}, "list of str"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "source": []}, "an object"),
        ({"prompt": "p", "chosen": "\ud800", "rejected": "b"}, "half a character"),
        ([{"role": "user"}], "no JSON object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: object, words: str) -> None:
    """The error names the file, the line, and what was wrong with it."""
    path = tmp_path / "preferences.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n' + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"preferences\.jsonl, line 2") as raised:
        read_preferences(path)
    assert words in str(raised.value)


@pytest.mark.parametrize("line", ['{"prompt": "p", "cho', "[" * 100_000, "1" * 5000])
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str) -> None:
    """A cut-off line, endless nesting and an endless number are data errors, not crashes."""
    path = tmp_path / "cut.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.jsonl, line 1"):
        read_preferences(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A missing file, bytes that are no UTF-8 and an unknown ending are data errors."""
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(DataError, match=r"gone\.jsonl can't be read"):
        read_preferences(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"no UTF-8 text; got b'\\xe9'"):
        read_preferences(tmp_path / "latin.jsonl")
    with pytest.raises(DataError, match=r"got '\.xlsx'; expected \.csv or \.jsonl or \.txt"):
        read_prompts(tmp_path / "prompts.xlsx")


def test_prompts_are_read_from_text_csv_and_json_lines(tmp_path: Path) -> None:
    """A text file has one prompt a line; CSV and JSON lines may bring a reference, also named label."""
    (tmp_path / "p.txt").write_text("  How?  \n\nWhy?\r\n", encoding="utf-8")
    (tmp_path / "p.csv").write_text('id,prompt,reference\n1,"How, then?",So.\n2,"Two\nlines?",\n', encoding="utf-8")
    (tmp_path / "p.jsonl").write_text('{"prompt": "How?", "label": "So."}\n{"prompt": "Why?"}\n', encoding="utf-8")
    assert read_prompts(tmp_path / "p.txt") == [PromptRecord("How?"), PromptRecord("Why?")]
    assert read_prompts(tmp_path / "p.csv") == [PromptRecord("How, then?", "So."), PromptRecord("Two\nlines?")]
    assert read_prompts(tmp_path / "p.jsonl") == [PromptRecord("How?", "So."), PromptRecord("Why?")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", "question\nHow?\n", 'line 2: no "prompt"'),
        ("p.csv", "prompt\nHow, then?\n", "line 2: more cells"),
        ("p.txt", "\n \n", "holds no prompts"),
        ("p.jsonl", '{"prompt": "p", "label": 1}', '"label" can\'t be used; got 1'),
    ],
)
def test_prompts_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    """A missing column, an unquoted comma, an empty file and a label that is no text are told apart."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_prompts(tmp_path / name)
    assert words in str(raised.value)


def test_prompts_and_demonstrations_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Writing and reading prompts and demonstrations changes nothing; other names for an answer are understood."""
    prompts = [PromptRecord("How?\nNow"), PromptRecord("Why?", "So.")]
    demonstrations = [Demonstration("How?", "So.\n")]
    write_prompts(tmp_path / "p.jsonl", prompts)
    write_demonstrations(tmp_path / "d.jsonl", demonstrations)
    assert read_prompts(tmp_path / "p.jsonl") == prompts
    assert read_demonstrations(tmp_path / "d.jsonl") == demonstrations
    (tmp_path / "e.jsonl").write_text('{"prompt": "p", "completion": "c"}\n{"prompt": "p", "label": "l"}\n')
    assert read_demonstrations(tmp_path / "e.jsonl") == [Demonstration("p", "c"), Demonstration("p", "l")]
