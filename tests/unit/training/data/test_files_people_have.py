"""Files of prompts and preferences in the forms that people really have: read as meant, or refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.files import read_demonstrations, read_preferences, read_prompts
from training.data.prompt_sources import PromptSource, read_rows
from training.data.prompts import Message
from training.data.records import LeftOut, Reading
from training.data.types import Demonstration, Preference, PromptRecord
from training.errors import DataError

USER, ANSWERED = Message("user", "Tea?"), Message("assistant", "Which?")


def put(folder: Path, name: str, content: object, encoding: str = "utf-8") -> Path:
    """Write a file: text as it is, a list as JSON lines, anything else as JSON."""
    if isinstance(content, list) and name.endswith(".jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in content)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.csv", "prompt,x\nTea?,1\nHam?,2\n", "utf-8"),
        ("a.csv", "prompt;x\nTea?;1\nHam?;2\n", "utf-8"),
        ("a.csv", "Prompt,Category\nTea?,1\nHam?,2\n", "utf-8-sig"),
        ("a.csv", "x\t PROMPT \n1\tTea?\n2\tHam?\n", "utf-16"),
        ("a.tsv", "prompt\tx\nTea?\t1\nHam?\t2\n", "utf-8"),
        ("a.json", [{"prompt": "Tea?"}, {"prompt": "Ham?"}], "utf-8"),
        ("a.json", [{"data": {"prompt": "Tea?"}}, {"id": 2, "data": {"prompt": "Ham?"}, "annotations": []}], "utf-8"),
        ("a.json", ["Tea?", "Ham?"], "utf-8"),
        ("a.json", '{"prompt": "Tea?"}\n{"prompt": "Ham?"}\n', "utf-8"),
        ("a.jsonl", [{"data": {"prompt": "Tea?"}}, {"prompt": "Ham?", "data": {"prompt": "no"}}], "utf-8"),
        ("a.jsonl", [{"prompt": [{"role": "user", "content": "Tea?"}]}, {"prompt": "Ham?"}], "utf-8"),
        ("a.txt", "Tea?\r\n\r\nHam?\r\n", "utf-8"),
    ],
)
def test_prompts_in_every_form(name: str, content: object, encoding: str, tmp_path: Path) -> None:
    """Separator, case of the header, byte order marks and nesting make no difference to what is imported."""
    path = put(tmp_path, name, content, encoding)
    assert read_rows(PromptSource(str(path)), "prompt") == [{"prompt": "Tea?"}, {"prompt": "Ham?"}]


def test_numbers_are_prompts_and_conversations_keep_their_messages(tmp_path: Path) -> None:
    """A task shows the words, and keeps the messages beside them."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    path = put(tmp_path, "a.jsonl", [{"prompt": 1984}, {"prompt": turns}])
    assert read_rows(PromptSource(str(path)), "q") == [
        {"q": "1984"},
        {"q": "System: Be brief.\n\nUser: Tea?", "q_messages": turns},
    ]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Which?"}],
        [{"from": "human", "value": "Tea?"}, {"from": "gpt", "value": "Which?"}],
        [{"role": "user", "content": [{"type": "text", "text": "Tea?"}]}, {"role": "assistant", "content": "Which?"}],
    ],
)
def test_a_whole_conversation_is_a_demonstration_and_its_beginning_a_prompt(turns: object, tmp_path: Path) -> None:
    """The columns are called `messages` or `conversations`."""
    path = put(tmp_path, "a.jsonl", [{"messages": turns}])
    assert read_demonstrations(path) == [Demonstration((USER,), "Which?")]
    assert read_prompts(path) == [PromptRecord((USER,))]


def test_another_encoding_is_named_by_its_option(tmp_path: Path) -> None:
    """The error says which line isn't UTF-8, and what to do."""
    path = put(tmp_path, "a.csv", "prompt\nWhat’s café?\n", "cp1252")
    with pytest.raises(DataError, match=r"line 2 has a byte.*--encoding.*cp1252"):
        read_rows(PromptSource(str(path)), "prompt")
    reading = Reading(encoding="cp1252")
    assert read_rows(PromptSource(str(path), reading=reading), "prompt") == [{"prompt": "What’s café?"}]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_class_label_is_no_reference(name: str, tmp_path: Path) -> None:
    """Unless somebody asks for it; a text called reference, summary or completion is one."""
    csv = "text,label,completion\nGood film,1,\nBad film,0,Bad.\n"
    rows = [{"text": "Good film", "label": 1}, {"text": "Bad film", "label": 0, "completion": "Bad."}]
    path = str(put(tmp_path, name, csv if name == "a.csv" else rows))
    good, bad = {"prompt": "Good film"}, {"prompt": "Bad film", "reference": "Bad."}
    assert read_rows(PromptSource(path, "text"), "prompt") == [good, bad]
    asked = PromptSource(path, "text", reading=Reading(reference_field="label"))
    assert [row["reference"] for row in read_rows(asked, "prompt")] == ["1", "0"]


def test_a_bad_row_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its line and the reason; it is fatal if it was asked to be, or if nothing is left."""
    path = put(tmp_path, "a.csv", 'prompt;x\nTea?;1\n"";2\nHam?;3;4\nPie?;\n')
    assert [row["prompt"] for row in read_rows(PromptSource(str(path)), "prompt")] == ["Tea?", "Pie?"]
    assert '2 rows left out: line 3 (no "prompt"), line 4 (more cells than the header row)' in caplog.text
    with pytest.raises(DataError, match="line 3"):
        read_rows(PromptSource(str(path), reading=Reading(strict=True)), "prompt")
    alone = put(tmp_path, "b.jsonl", [{"prompt": ""}, {"prompt": " "}])
    with pytest.raises(DataError, match="none of the other 1 rows"):
        read_prompts(alone)


PAIR = {"prompt": "Tea?", "chosen": "Leaves.", "rejected": "Stones."}
TURNS = [{"role": "user", "content": "Tea?"}]


def said(text: str) -> list[dict[str, str]]:
    """One message of the assistant's."""
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("name", "content", "prompt"),
    [
        ("a.json", [PAIR], "Tea?"),
        ("a.jsonl", [{**PAIR, "source": "web", "score_chosen": 9.5, "annotators": 3, "messages": []}], "Tea?"),
        ("a.csv", "Prompt;Chosen;Rejected\nTea?;Leaves.;Stones.\n", "Tea?"),
        ("a.tsv", "rejected\tchosen\tprompt\nStones.\tLeaves.\tTea?\n", "Tea?"),
        ("a.jsonl", [{"prompt": TURNS, "chosen": said("Leaves."), "rejected": said("Stones.")}], (USER,)),
        ("a.jsonl", [{"chosen": TURNS + said("Leaves."), "rejected": TURNS + said("Stones.")}], (USER,)),
        (
            "a.jsonl",
            [{"prompt": "Tea?", "chosen": TURNS + said("Leaves."), "rejected": TURNS + said("Stones.")}],
            (USER,),
        ),
        (
            "a.jsonl",
            [{"chosen": "\n\nHuman: Tea?\n\nAssistant: Leaves.", "rejected": "\n\nHuman: Tea?\n\nAssistant: Stones."}],
            (USER,),
        ),
        (
            "a.jsonl",
            [
                {
                    "chosen": "\n\nHuman: Tea?\n\nAssistant: Which?\n\nHuman: Any.\n\nAssistant: Leaves.",
                    "rejected": "\n\nHuman: Tea?\n\nAssistant: Which?\n\nHuman: Any.\n\nAssistant: Stones.",
                }
            ],
            (USER, ANSWERED, Message("user", "Any.")),
        ),
        ("a.jsonl", [{**PAIR, "prompt": ""}], ""),
    ],
)
def test_preferences_in_every_form(name: str, content: object, prompt: object, tmp_path: Path) -> None:
    """Standard, conversational and with an implicit prompt; other columns are passed over."""
    (found,) = read_preferences(put(tmp_path, name, content))
    assert (found.prompt, found.chosen, found.rejected) == (prompt, "Leaves.", "Stones.")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Tea?", "response_j": "a", "response_k": "b"}, "never guessed"),
        ({"chosen": "Leaves.", "rejected": "Stones."}, 'no "prompt"'),
        ({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}, "share a beginning"),
        ({"prompt": "Ham?", "chosen": TURNS + said("a"), "rejected": TURNS + said("b")}, "isn't what"),
        ({"prompt": "Tea?", "chosen": [{"role": "robot", "content": "a"}], "rejected": said("b")}, "unknown role"),
    ],
)
def test_preferences_that_leave_something_open_are_refused(row: object, words: str, tmp_path: Path) -> None:
    """Columns by other names, texts without a prompt, and conversations that begin differently."""
    with pytest.raises(DataError) as raised:
        read_preferences(put(tmp_path, "a.jsonl", [row]))
    assert words in str(raised.value)


def test_rows_that_prefer_nothing_are_counted_by_reason(tmp_path: Path) -> None:
    """Identical and blank answers; an empty one that people judged and that lost is a preference."""
    lost = {**PAIR, "rejected": "", "votes": 2}
    rows = [PAIR, {**PAIR, "rejected": "Leaves. "}, {**PAIR, "rejected": ""}, {**PAIR, "chosen": ""}, lost]
    left_out = LeftOut()
    found = read_preferences(put(tmp_path, "a.jsonl", rows), left_out=left_out)
    assert [(p.rejected, p.votes) for p in found] == [("Stones.", 1), ("", 2)]
    assert sorted(left_out.reasons.values()) == [1, 1, 1]
    assert left_out.in_words().startswith('3 rows left out: line 2 ("chosen" and "rejected" are the same text)')


def test_many_pairs_may_share_one_prompt(tmp_path: Path) -> None:
    """Each is a preference of its own."""
    rows = [{**PAIR, "chosen": f"Leaf {number}."} for number in range(50)]
    found = read_preferences(put(tmp_path, "a.jsonl", rows))
    assert found == [Preference("Tea?", f"Leaf {number}.", "Stones.") for number in range(50)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.sampled_from(["Tea?", "", "\n\nHuman: a\n\nAssistant: b", "\ud800"]) | JSON
TALK = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS}), max_size=3)
ROWS = st.dictionaries(
    st.sampled_from(["prompt", "chosen", "rejected", "messages", "votes", "p_chosen", "source", "data", "reference"]),
    TEXTS | TALK,
)


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(ROWS | JSON, max_size=4), st.sampled_from(["a.json", "a.jsonl"]))
def test_any_rows_are_read_counted_or_refused(tmp_path_factory, rows: list[object], name: str) -> None:
    """Whatever a file holds, each row is used or counted, and nothing but a DataError is raised."""
    path = put(tmp_path_factory.getbasetemp(), name, rows)
    for read in (read_preferences, read_prompts, read_demonstrations):
        left_out = LeftOut()
        try:
            made = read(path, left_out=left_out)
        except DataError:
            continue
        assert len(made) + left_out.rows == len(rows)


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(alphabet='ab,;\t"\n\r\x00', max_size=40), st.sampled_from(["a.csv", "a.tsv", "a.txt"]))
def test_any_text_is_read_or_refused(tmp_path_factory, text: str, name: str) -> None:
    """Whatever a spreadsheet holds, nothing but a DataError is raised."""
    path = put(tmp_path_factory.getbasetemp(), name, f"prompt;b\n{text}")
    try:
        assert read_prompts(path)
    except DataError:
        return
