"""Reads an export without its labeling configuration, but only as far as names say what they are.

Sides follow from names such as answer1 and answer2, response_a and response_b, left and right; a prompt is called
prompt, question, instruction or query. Anything else is refused: a guess would teach the opposite without a word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_backend.labels.export import annotations_in, as_tasks, columns_of, is_flat, result_value
from ml_backend.labels.fields import Field, LabelConfig
from ml_backend.labels.verdict_words import counts_on, is_further, plain_word, side_named, verdict_called
from training.data import Verdict, shown_text
from training.errors import DataError

_PROMPTS = ("prompt", "question", "instruction", "query")
_COMPLETED_BY = {"input", "context", "system", "systemprompt", "history", "text", "document", "passage", *_PROMPTS}
"""Columns that a prompt of another name is incomplete without."""
_SIDES = (Verdict.ANSWER1, Verdict.ANSWER2)
_TIES = {Verdict.TIE, Verdict.BOTH_BAD}
_DEFAULT = LabelConfig(
    "live",
    (Field("prompt", "prompt"),),
    "verdict",
    (Field("answer1"), Field("answer2")),
    {str(verdict): verdict for verdict in Verdict},
    "prompt",
    keys=("prompt",),
)

Region = Mapping[str, Any]


def infer_label_config(rows: Sequence[object]) -> LabelConfig:
    """The labeling configuration that an export's results and names tell.

    Raises:
        DataError: names don't say which text is the prompt, which answer is on which side, or what the verdict is;
            lists the columns, and names the option that tells.
    """
    flat = [columns_of(row) for row in rows if isinstance(row, Mapping) and is_flat(row)]
    tasks = as_tasks(rows, None)
    columns = _columns(tasks)
    if flat:
        return _flat(flat)
    regions: defaultdict[str, dict[str, list[Region]]] = defaultdict(dict)
    for region in _regions(tasks):
        regions[region["type"]].setdefault(region["from_name"], []).append(region)
    if not regions:
        return _DEFAULT
    if regions["pairwise"]:
        control = _only(regions["pairwise"], columns, "Pairwise")
        return _pairwise(control, columns, regions["choices"])
    if regions["ranker"]:
        control = _only(regions["ranker"], columns, "Ranker")
        return _ranker(control, regions["ranker"][control], columns, tasks)
    return _with_choices(
        regions["textarea"], regions["choices"], columns, sorted(kind for kind, found in regions.items() if found)
    )


def _pairwise(control: str, columns: Sequence[str], choices: Mapping[str, list[Region]]) -> LabelConfig:
    answers = _sided(columns)
    meanings = {name: _meanings(found) for name, found in choices.items()}
    beside = {name: known for name, known in meanings.items() if known and set(known.values()) <= _TIES}
    return LabelConfig("pairwise", _prompts(columns, answers), control, answers, {}, answers[0].name, beside)


def _ranker(control: str, regions: Sequence[Region], columns: Iterable[str], tasks: Sequence[object]) -> LabelConfig:
    lists = list(dict.fromkeys(key for data in _data(tasks) for key, value in data.items() if _is_items(value)))
    if len(lists) != 1:
        raise _unclear(columns, "which column holds the ranked answers")
    shown = Field(str(regions[0].get("to_name") or "answers"), lists[0])
    return LabelConfig("ranker", _prompts(columns, (shown,)), control, (shown,), {}, shown.name)


def _with_choices(
    areas: Mapping[str, list[Region]], choices: Mapping[str, list[Region]], columns: Sequence[str], types: Sequence[str]
) -> LabelConfig:
    """Answers that people saw in TextAreas, or else in the task; a Choices says which is better."""
    if not choices:
        raise _unclear(columns, f"which results ({', '.join(types)}) say which answer is better")
    names = [[name for name in areas if side_named(name) is side] for side in _SIDES]
    in_areas = [len(found) for found in names] == [1, 1]
    answers = tuple(Field(found[0]) for found in names) if in_areas else _sided(columns)
    meanings = {name: _meanings(found) for name, found in choices.items()}
    telling = [name for name, known in meanings.items() if known] or list(choices)
    telling = telling if len(telling) == 1 else [name for name in telling if plain_word(name) == "verdict"]
    if len(telling) != 1:
        raise _unclear(columns, f"which Choices ({', '.join(choices)}) says which answer is better")
    control = telling[0]
    usual = {str(verdict): verdict for verdict in Verdict}
    target = str(choices[control][0].get("to_name") or "prompt")
    kind: Any = "live" if in_areas else "choices"
    prompts = _prompts(columns, () if in_areas else answers)
    return LabelConfig(kind, prompts, control, answers, {**usual, **meanings[control]}, target, keys=())


def _flat(rows: Sequence[Region]) -> LabelConfig:
    """JSON_MIN or CSV of a pairwise project, whose verdict is known by its form; others need their configuration."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    controls = [name for name in columns if any(_is_selection(row.get(name)) for row in rows)]
    if len(controls) != 1:
        raise _unclear(columns, "which column holds the verdict")
    return _pairwise(controls[0], [name for name in columns if name != controls[0]], {})


def _sided(columns: Sequence[str]) -> tuple[Field, Field]:
    """The two columns whose names say which side they are on."""
    found = [[name for name in columns if side_named(name) is side] for side in _SIDES]
    if [len(names) for names in found] != [1, 1] or any(counts_on(name) for name in columns):
        raise _unclear(columns, "which columns hold the answers, and which one stood on the left")
    return Field(found[0][0], found[0][0]), Field(found[1][0], found[1][0])


def _prompts(columns: Iterable[str], answers: Sequence[Field]) -> tuple[Field, ...]:
    """The column that is called like a prompt; none if there are only the answers."""
    others = [name for name in columns if name not in {answer.key for answer in answers}]
    words = {name: plain_word(name) for name in others}
    called = [name for name in others if words[name] in _PROMPTS]
    asked = [name for name in others if words[name] in _COMPLETED_BY]
    if len(called) == 1 and len(asked) == 1:
        return (Field(called[0], called[0]),)
    if not others:
        return ()
    raise _unclear([*(str(answer.key) for answer in answers if answer.key), *others], "which column is the prompt")


def _unclear(columns: Iterable[str], what: str) -> DataError:
    return DataError(
        f"names don't say {what}",
        got=", ".join(columns) or "no columns",
        expected="names such as prompt, answer1 and answer2",
        remedy="Give the project's labeling configuration with --label-config FILE: sides are never guessed.",
    )


def _only(found: Mapping[str, object], columns: Iterable[str], tag: str) -> str:
    if len(found) != 1:
        raise _unclear(columns, f"which {tag} ({', '.join(found)}) holds the verdict")
    return next(iter(found))


def _meanings(choices: Sequence[Region]) -> dict[str, Verdict]:
    """The meanings of the values seen; empty if they count beyond two."""
    values = (choice.get("value") for choice in choices)
    found = (value.get("choices") for value in values if isinstance(value, Mapping))
    words = {word for chosen in found if isinstance(chosen, list) for word in chosen if isinstance(word, str)}
    if any(is_further(word) for word in words):
        return {}
    known = {word: verdict_called(word) for word in sorted(words)}
    return {word: verdict for word, verdict in known.items() if verdict}


def _columns(tasks: Iterable[object]) -> list[str]:
    """The columns of the tasks' data that hold texts or conversations (or nothing), in order of first appearance."""
    shown = ((key, value) for data in _data(tasks) for key, value in data.items() if isinstance(key, str))
    return list(
        dict.fromkeys(
            key for key, value in shown if value is None or shown_text(value) is not None or _is_messages(value)
        )
    )


def _data(tasks: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        data = task.get("data") if isinstance(task, Mapping) else None
        if isinstance(data, Mapping):
            yield data


def _is_items(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) and "id" in item for item in value)


def _is_messages(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) and "content" in item for item in value)


def _is_selection(value: object) -> bool:
    found = result_value(value)
    return isinstance(found, Mapping) and "selected" in found


def _regions(tasks: Sequence[object]) -> Iterator[Region]:
    for annotation in annotations_in(tasks):
        result = annotation.get("result")
        for region in result if isinstance(result, list) else []:
            if isinstance(region, Mapping) and all(
                isinstance(region.get(name), str) and region[name] for name in ("type", "from_name")
            ):
                yield region
