"""Exports in the forms that people really have: each is read as they meant it, or refused in words."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ml_backend.labels.config import parse_label_config
from ml_backend.loop.dataset import dataset_from, export_preferences, read_export_file
from training.data.prompts import Message
from training.data.types import Preference
from training.errors import DataError

Json = dict[str, Any]
SIDES = """<View><Text name="q" value="$question"/><Text name="l" value="$by_hand"/><Text name="r" value="$by_machine"/>
  <Pairwise name="pick" toName="l,r"/></View>"""


def region(kind: str, name: str, value: object) -> Json:
    """One region of a result."""
    return {"type": kind, "from_name": name, "to_name": "q", "value": value}


def picked(side: object, name: str = "pick") -> Json:
    """The region of a Pairwise."""
    return region("pairwise", name, {"selected": side})


def chose(value: str, name: str = "verdict") -> Json:
    """The region of a Choices."""
    return region("choices", name, {"choices": [value]})


def wrote(name: str, text: str) -> Json:
    """The region of a TextArea."""
    return region("textarea", name, {"text": [text]})


def judged(data: Json, *regions: Json, number: int = 1, **annotation: object) -> Json:
    """A task with one annotation."""
    made = {"id": number, "completed_by": number, "result": list(regions), "was_cancelled": False, **annotation}
    return {"id": number, "data": data, "annotations": [made]}


def pairs(tasks: list[Any], xml: str | None = None, **options: Any) -> list[tuple[Any, str, str, float]]:
    """The preferences in tasks: prompt, chosen, rejected, share of votes."""
    config = parse_label_config(xml) if xml else None
    found: list[Preference] = dataset_from(tasks, config, **options).preferences
    return [(p.prompt, p.chosen, p.rejected, p.p_chosen) for p in found]


PLAIN = {"prompt": "Tea?", "answer1": "Leaves.", "answer2": "Stones."}
WON = [("Tea?", "Leaves.", "Stones.", 1.0)]


def test_sides_are_what_the_config_shows_and_never_the_alphabet() -> None:
    """Columns whose names say no side are refused without a config, naming them and the option."""
    data = {"question": "Tea?", "by_machine": "Stones.", "by_hand": "Leaves."}
    assert pairs([judged(data, picked("left"))], SIDES) == WON
    with pytest.raises(DataError, match=r"got 'question, by_machine, by_hand'.*--label-config"):
        pairs([judged(data, picked("left"))])


@pytest.mark.parametrize(
    ("first", "second"),
    [("answer1", "answer2"), ("output_a", "output_b"), ("left", "right"), ("chosen", "rejected"), ("Text1", "Text2")],
)
def test_sides_follow_from_names_that_say_so(first: str, second: str) -> None:
    """In whichever order the columns stand."""
    assert pairs([judged({second: "Stones.", "prompt": "Tea?", first: "Leaves."}, picked("left"))]) == WON


def test_other_columns_are_no_answers() -> None:
    """An instruction with its input is refused without a config; the answers are what the config shows."""
    data = {"instruction": "Sum up.", "input": "Tea", "reply_a": "A", "reply_b": "B", "reply_a_model": "m1"}
    with pytest.raises(DataError, match="names don't say which column is the prompt"):
        pairs([judged(data, picked("right"))])
    xml = """<View><Text name="i" value="$instruction"/><Text name="c" value="$input"/><Text name="a" value="$reply_a"/>
      <Text name="b" value="$reply_b"/><Pairwise name="pick" toName="a,b"/></View>"""
    config = parse_label_config(xml, ["i", "c"])
    (found,) = dataset_from([judged(data, picked("right"))], config).preferences
    assert (found.prompt, found.chosen, found.rejected) == ("Sum up.\n\nTea", "B", "A")


def test_the_verdict_is_the_control_whose_values_are_verdicts() -> None:
    """Whatever other Choices stand before it."""
    regions = [chose("harmless", "risk"), wrote("answer1", "Leaves."), wrote("answer2", "Stones."), chose("answer1")]
    assert pairs([judged({"prompt": "Tea?"}, *regions)]) == WON


def test_the_newest_review_decides() -> None:
    """A rejected vote is counted apart; one that was accepted later counts again."""
    no, yes = {"id": 1, "accepted": False}, {"id": 2, "accepted": True}
    fates = [
        judged(PLAIN, picked("left"), number=1, reviews=[no], last_action="rejected"),
        judged(PLAIN, picked("left"), number=2, reviews=[no, yes]),
        judged(PLAIN, picked("left"), number=3, reviews=[{**yes, "id": 0}, no]),
        judged(PLAIN, picked("left"), number=4, last_action="rejected"),
    ]
    summary = dataset_from(fates).summary
    assert (summary.kept, summary.dropped) == (1, {"rejected_in_review": 3})


def test_ground_truth_is_a_vote_unless_the_setting_says_otherwise() -> None:
    """Its share of what was kept is reported."""
    task = judged(PLAIN, picked("left"), number=1)
    for number in (2, 3):
        task["annotations"] += judged(PLAIN, picked("right"), number=number, ground_truth=number == 3)["annotations"]
    task["annotations"] += judged(PLAIN, picked("left"), number=4)["annotations"]
    assert pairs([task]) == [("Tea?", "Leaves.", "Stones.", 0.5)]
    assert dataset_from([task]).summary.ground_truth == 1
    assert pairs([task], ground_truth="only") == [("Tea?", "Stones.", "Leaves.", 1.0)]
    assert pairs([task], ground_truth="ignore") == [("Tea?", "Leaves.", "Stones.", 2 / 3)]
    assert dataset_from([task], ground_truth="only").summary.dropped == {"not_ground_truth": 3}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"id": 1, "data": PLAIN, "annotations": [], "drafts": [{"result": [picked("left")]}]}, "Press Submit"),
        ({"id": 1, "data": PLAIN, "completions": [{"result": [picked("left")]}]}, "Label Studio 0.x"),
        ({"id": 1, "data": PLAIN, "annotations": []}, "there are no annotations"),
        (judged(PLAIN, picked("banana")), "Unknown verdicts: 'banana'"),
        (judged(PLAIN, was_cancelled=True), "1 skipped"),
    ],
)
def test_where_nothing_is_found_it_says_what_was(task: Json, words: str, tmp_path: Path) -> None:
    """And what to do; no file is written."""
    summary = export_preferences([task], tmp_path / "out.jsonl")
    assert words in str(summary.nothing_found())
    assert not (tmp_path / "out.jsonl").exists()


def test_typed_columns_are_read_as_they_are_shown() -> None:
    """A CSV import makes numbers and booleans of texts."""
    assert pairs([judged({"prompt": 1984, "answer1": False, "answer2": 2.5}, picked("right"))]) == [
        ("1984", "2.5", "false", 1.0)
    ]


def test_messages_are_a_chat_prompt() -> None:
    """In a column that a Text shows, or a Paragraphs with keys of its own."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    chat = (Message("system", "Be brief."), Message("user", "Tea?"))
    data = {"answer1": "Leaves.", "answer2": "Stones."}
    assert pairs([judged({"prompt": turns, **data}, picked("left"))])[0][0] == chat
    xml = """<View><Paragraphs name="d" value="$talk" nameKey="who" textKey="said"/><Text name="a" value="$answer1"/>
      <Text name="b" value="$answer2"/><Pairwise name="pick" toName="a,b"/></View>"""
    talk = [{"who": "Human", "said": "Tea?"}]
    assert pairs([judged({"talk": talk, **data}, picked("left"))], xml)[0][0] == (Message("user", "Tea?"),)
    strangers = [{"who": "Customer", "said": "Tea?"}, {"who": "Agent", "said": "Yes."}]
    found = pairs([judged({"talk": strangers, **data}, picked("left"))], xml)
    assert found[0][0] == "Customer: Tea?\n\nAgent: Yes."


def test_a_selection_may_name_the_object() -> None:
    """As older versions of Label Studio store it."""
    assert pairs([judged(PLAIN, picked("answer2"))]) == [("Tea?", "Stones.", "Leaves.", 1.0)]


def test_a_tie_may_stand_beside_the_pair() -> None:
    """Both together contradict each other."""
    tie = chose("No difference", "even")
    tasks = [judged(PLAIN, tie), judged({**PLAIN, "prompt": "Ham?"}, picked("left"), number=2)]
    assert pairs(tasks) == [("Ham?", "Leaves.", "Stones.", 1.0), ("Tea?", "Leaves.", "Stones.", 0.5)]
    summary = dataset_from([judged(PLAIN, tie, picked("left"))]).summary
    assert summary.unknown_verdicts == {"answer1 and tie": 1}


def test_without_a_prompt_the_prompt_is_empty() -> None:
    """People were asked which text is better."""
    assert pairs([judged({"text1": "Leaves.", "text2": "Stones."}, picked("left"))]) == [
        ("", "Leaves.", "Stones.", 1.0)
    ]


def test_a_blank_answer_can_lose_but_not_win() -> None:
    """A preference for the other, with an empty rejected answer."""
    data = {**PLAIN, "answer2": " "}
    assert pairs([judged(data, picked("left"))]) == [("Tea?", "Leaves.", "", 1.0)]
    assert dataset_from([judged(data, picked("right"))]).summary.dropped == {"missing_answer": 1}


ITEMS = [{"id": name, "body": f"text {name}"} for name in "abc"]


def test_buckets_are_read_where_their_names_say_which_is_better() -> None:
    """Answers in one bucket aren't compared; without an order nothing is, and it is counted."""
    ranked = region("ranker", "rank", {"ranker": {"bad": ["c"], "good": ["a", "b"], "_": []}})
    task = judged({"prompt": "Tea?", "items": ITEMS}, ranked)
    xml = """<View><Text name="q" value="$prompt"/><List name="l" value="$items"/><Ranker name="rank" toName="l">
      <Bucket name="bad"/><Bucket name="good"/></Ranker></View>"""
    assert [found[1:3] for found in pairs([task], xml)] == [("text a", "text c"), ("text b", "text c")]
    assert dataset_from([task]).summary.dropped == {"unordered_buckets": 1}


def test_a_ranking_may_be_a_plain_list() -> None:
    """As older versions of Label Studio store it."""
    ranked = region("ranker", "rank", {"ranker": ["b", "c", "a"]})
    found = pairs([judged({"prompt": "Tea?", "items": ITEMS}, ranked)])
    assert {(chosen[-1], rejected[-1]) for _, chosen, rejected, _ in found} == {("b", "c"), ("b", "a"), ("c", "a")}


FLAT = {"id": 1, **PLAIN, "pick": {"selected": "left"}, "annotator": 2, "annotation_id": 3, "lead_time": 1.5}


def test_json_min_and_csv_hold_all_that_a_pair_needs(tmp_path: Path) -> None:
    """Without a config too, as the verdict is known by its form; CSV has it as text."""
    assert pairs([FLAT]) == pairs([{**FLAT, "pick": [{"selected": "left"}]}]) == WON
    header = "id,prompt,answer1,answer2,pick,annotator,annotation_id"
    row = '1,Tea?,Leaves.,Stones.,"[{""selected"": ""left""}]",2,3'
    (tmp_path / "export.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert pairs(read_export_file(tmp_path / "export.csv")) == WON


def test_flat_exports_of_other_kinds_need_their_config() -> None:
    """A column of verdicts could be anything."""
    xml = """<View><Text name="prompt" value="$prompt"/><TextArea name="answer1" toName="prompt"/>
      <TextArea name="answer2" toName="prompt"/><Choices name="better" toName="prompt"><Choice value="First"/>
      <Choice value="Second"/></Choices></View>"""
    row = {"id": 1, **PLAIN, "better": "Second", "annotator": "a@b.co", "annotation_id": 3}
    assert pairs([row], xml) == [("Tea?", "Stones.", "Leaves.", 1.0)]
    with pytest.raises(DataError, match="which column holds the verdict"):
        pairs([row])


STORED = {"id": 3, "completed_by": 2, "result": [picked("left")], "task": {"id": 5, "project": 4, "data": PLAIN}}


def test_target_storage_is_read_from_a_folder_lines_or_an_archive(tmp_path: Path) -> None:
    """An annotation a file, often without an ending; a broken file is counted, pictures are passed over."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "3").write_text(json.dumps(STORED))
    (folder / "4.json").write_text(json.dumps({**STORED, "id": 4, "completed_by": 6}))
    (folder / "5.json").write_text('{"id": 5, "res')
    (folder / "photo.png").write_bytes(b"\x89PNG")
    found = dataset_from(read_export_file(folder))
    assert [(p.votes, p.source.project_id) for p in found.preferences] == [(2, 4)]
    assert found.summary.dropped == {"unreadable": 1}
    (tmp_path / "lines.jsonl").write_text(json.dumps(STORED) + "\n" + json.dumps({**STORED, "completed_by": 6}) + "\n")
    assert [p.votes for p in dataset_from(read_export_file(tmp_path / "lines.jsonl")).preferences] == [2]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("export/one.json", json.dumps([judged(PLAIN, picked("left"))]))
    assert pairs(read_export_file(tmp_path / "all.zip")) == WON
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="holds no export"):
        read_export_file(tmp_path / "nothing")


HOME_MADE = """<View><Text name="p" value="$prompt"/><Text name="response_a" value="$model_1_says"/>
  <Text name="response_b" value="$model_2_says"/><Choices name="pref" toName="p">{}</Choices></View>"""
SAID = {"prompt": "Tea?", "model_1_says": "Leaves.", "model_2_says": "Stones."}


@pytest.mark.parametrize(
    ("values", "fates"),
    [
        (("a_winner", "b_winner", "tie"), "12="),
        (("Answer A", "Answer B", "About the same", "Neither"), "12=x"),
        (("left is better", "right is better", "both", "both bad"), "12=x"),
        (("1", "2"), "12"),
        (("A >> B", "A > B", "A = B", "B > A"), "11=2"),
        (("Response A is much better", "Response B is slightly better", "can't say"), "12?"),
        (("response_b", "response_a"), "21"),
    ],
)
def test_a_choices_about_two_texts_of_the_task(values: tuple[str, ...], fates: str) -> None:
    """The commonest home-made config; a value that is no verdict is counted with its words."""
    xml = HOME_MADE.format("".join(f'<Choice value="{value.replace(">", "&gt;")}"/>' for value in values))
    expected = {"1": WON, "2": [("Tea?", "Stones.", "Leaves.", 1.0)], "=": [("Tea?", "Leaves.", "Stones.", 0.5)]}
    for value, fate in zip(values, fates, strict=True):
        tasks = [judged(SAID, chose(value, "pref"))]
        assert pairs(tasks, xml) == expected.get(fate, []), value
        summary = dataset_from(tasks, parse_label_config(xml)).summary
        assert summary.dropped == {"x": {"both_bad": 1}, "?": {"unknown_verdict": 1}}.get(fate, {})
        assert summary.unknown_verdicts == ({value: 1} if fate == "?" else {})


def test_more_stars_are_better_and_as_many_are_a_tie() -> None:
    """A Rating for each of two answers; without both there is no verdict."""
    xml = """<View><Text name="prompt" value="$prompt"/><Text name="x" value="$answer1"/><Rating name="rx" toName="x"/>
      <Text name="y" value="$answer2"/><Rating name="ry" toName="y"/></View>"""

    def rated(*stars: int) -> list[Json]:
        names = zip(("rx", "ry"), stars, strict=False)
        return [judged(PLAIN, *(region("rating", name, {"rating": number}) for name, number in names))]

    assert pairs(rated(5, 2), xml) == WON
    assert pairs(rated(3, 3), xml) == [("Tea?", "Leaves.", "Stones.", 0.5)]
    assert dataset_from(rated(4), parse_label_config(xml)).summary.dropped == {"unknown_verdict": 1}


def test_html_is_read_as_people_saw_it() -> None:
    """Tags are no words."""
    xml = """<View><HyperText name="q" value="$prompt"/><HyperText name="a" value="$answer1"/>
      <HyperText name="b" value="$answer2"/><Pairwise name="pick" toName="a,b"/></View>"""
    data = {"prompt": "<p>Tea &amp; <b>ham</b>?</p>", "answer1": "<ul><li>One</li><li>Two</li></ul>", "answer2": "No"}
    assert pairs([judged(data, picked("left"))], xml) == [("Tea & ham?", "One\nTwo", "No", 1.0)]
