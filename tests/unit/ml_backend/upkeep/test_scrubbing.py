"""What is taken out of a file, and what stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ml_backend.upkeep.scrubbing import REMOVED, Wanted, scrubbed, texts_of

SECRET = "My number is 555 0100, call me."


def _row(number: int, chosen: str = "Leaves.", project: int | None = 7) -> dict[str, Any]:
    source = {"project_id": project, "task_id": 10 + number, "annotation_ids": [number]}
    return {"prompt": "Tea?", "chosen": chosen, "rejected": "No.", "source": source}


def _lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_preferences_go_by_the_annotations_behind_them() -> None:
    """Of the project that is named, and of no other; the other lines stay as they are to the byte."""
    content = _lines(_row(1), _row(2), _row(1, project=8))
    assert scrubbed("preferences.jsonl", content, Wanted(7, annotations=frozenset({1}))) == _lines(
        _row(2), _row(1, project=8)
    )
    assert scrubbed("preferences.jsonl", content, Wanted(7, tasks=frozenset({12}))) == _lines(
        _row(1), _row(1, project=8)
    )


def test_rows_go_by_their_text_wherever_it_stands() -> None:
    """Long texts are found inside others and in conversations; a short one only where it stands alone."""
    talk = {"prompt": [{"role": "user", "content": f"Hi. {SECRET}"}], "answer": "Yes."}
    content = _lines(talk, {"prompt": "a", "answer": "Yes, of course."}, {"prompt": "b", "answer": "Yes."})
    left = scrubbed("demonstrations.jsonl", content, Wanted(texts=frozenset({SECRET, "Yes."})))
    assert left == _lines({"prompt": "a", "answer": "Yes, of course."})


def test_a_snapshot_loses_the_annotation_or_the_task() -> None:
    """An annotation's siblings stay, and so does a task of the same number in another project."""
    tasks = [
        {"id": 1, "project": 7, "data": {"prompt": "Tea?"}, "annotations": [{"id": 1}, {"id": 2}]},
        {"id": 2, "project": 8, "data": {"prompt": "Tea?"}, "annotations": [{"id": 1}]},
    ]
    content = json.dumps(tasks).encode()
    left = json.loads(scrubbed("tasks.json", content, Wanted(7, annotations=frozenset({1}))))
    assert [[a["id"] for a in task["annotations"]] for task in left] == [[2], [1]]
    left = json.loads(scrubbed("tasks.json", content, Wanted(7, tasks=frozenset({1, 2}))))
    assert [task["project"] for task in left] == [8]


def test_a_report_keeps_its_form() -> None:
    """Entries of lists are left out, other texts and keys replaced; the document stays a document."""
    report = {"accuracy": 0.9, "note": f"It says: {SECRET}", "samples": [SECRET, "other"], "values": {SECRET: 2}}
    left = json.loads(scrubbed("report.json", json.dumps(report).encode(), Wanted(texts=frozenset({SECRET}))))
    assert left == {"accuracy": 0.9, "note": REMOVED, "samples": ["other"], "values": {REMOVED: 2}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"x": 1}\n\n{broken\n'),
        ("a.json", b"[1, 2"),
        ("a.csv", b"a,b\r\n\xff\r\n"),
        ("a.json", b'{"x":1}'),
    ],
)
def test_what_holds_nothing_of_it_stays_to_the_byte(name: str, content: bytes) -> None:
    """Also broken files, other encodings and other ways to write JSON."""
    assert scrubbed(name, content, Wanted(7, frozenset({1}), frozenset({2}), frozenset({SECRET}))) == content


def test_plain_texts_are_replaced() -> None:
    """In files that aren't JSON, and in JSON that is cut off."""
    wanted = Wanted(texts=frozenset({SECRET}))
    assert scrubbed("a.csv", f"1,{SECRET}\n2,x\n".encode(), wanted) == f"1,{REMOVED}\n2,x\n".encode()
    assert SECRET.encode() not in scrubbed("a.json", f'["{SECRET}", '.encode(), wanted)


def test_only_texts_that_nobody_else_wrote_are_looked_for() -> None:
    """Proposed answers that others judged stay; what the annotator wrote goes."""
    shared, own = (
        {"value": {"text": ["Leaves in water."]}},
        {"value": {"text": SECRET}, "meta": {"proposed": "Old text."}},
    )
    task = {
        "id": 1,
        "project": 7,
        "data": {"prompt": "What is tea?"},
        "annotations": [{"id": 1, "result": [shared, own]}, {"id": 2, "result": [shared]}],
    }
    assert texts_of([task], Wanted(7, annotations=frozenset({1}))) == {SECRET, "Old text."}
    assert texts_of([task], Wanted(8, annotations=frozenset({1}))) == frozenset()
    assert "What is tea?" in texts_of([task], Wanted(7, tasks=frozenset({1})))
