"""Infers an export's labeling configuration from its results and its tasks' data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_backend.labels.config import Field, LabelConfig
from ml_backend.labels.export import annotations_in
from ml_backend.labels.verdict_words import plain_word, verdict_called
from training.data import REFERENCE_KEYS, Verdict

_PROMPT_KEYS = ("prompt", "question", "instruction", "query", "text")
_ANSWER_WORDS = ("answer", "response", "completion", "output")
_OTHER_KEYS = {*REFERENCE_KEYS, "id", "meta"}
_SIDES = (Verdict.ANSWER1, Verdict.ANSWER2)

Region = Mapping[str, Any]


def infer_label_config(tasks: Sequence[object]) -> LabelConfig:
    """Infer the labeling configuration that an export's results fit.

    The kind follows from the results' types (pairwise, ranker, or textarea with choices), names from `from_name` and
    `to_name`, keys from the tasks' data. The rest defaults to this project's own configurations.
    """
    regions: defaultdict[str, list[Region]] = defaultdict(list)
    for region in _regions(tasks):
        regions[region["type"]].append(region)
    texts = [key for key in _keys(tasks, str) if key not in _OTHER_KEYS]
    prompt = next((key for name in _PROMPT_KEYS for key in texts if key.lower() == name), "prompt")
    if len(regions["pairwise"]) > len(regions["textarea"]):
        answers = _answer_keys([key for key in texts if key != prompt])
        control = _usual(regions["pairwise"], "from_name", "comparison")
        return LabelConfig("pairwise", Field(prompt, prompt), control, tuple(Field(key, key) for key in answers), {})
    if len(regions["ranker"]) > len(regions["textarea"]):
        ranked = Field(_usual(regions["ranker"], "to_name", "answers"), next(iter(_keys(tasks, list)), "items"))
        control = _usual(regions["ranker"], "from_name", "rank")
        return LabelConfig("ranker", Field(prompt, prompt), control, (ranked,), {})
    names = _area_names(regions["textarea"])
    return LabelConfig(
        "live",
        Field(_usual(regions["textarea"], "to_name", "prompt"), prompt),
        _usual(regions["choices"], "from_name", "verdict"),
        tuple(Field(name) for name in names),
        _meanings(names, regions["choices"]),
    )


def _answer_keys(keys: Sequence[str]) -> Sequence[str]:
    """The two texts, prompt aside, with names like an answer's, else the first two in alphabetical order."""
    named = [key for key in keys if key.lower().startswith(_ANSWER_WORDS)]
    return sorted(named if len(named) == 2 else keys)[:2] if len(keys) > 1 else ("answer1", "answer2")


def _area_names(areas: Sequence[Region]) -> Sequence[str]:
    """The two TextAreas that hold the answers; of more than two, those with names like an answer's."""
    names = sorted({area["from_name"] for area in areas})
    if len(names) > 2:
        names = [name for name in names if verdict_called(name) in _SIDES]
    return names if len(names) == 2 else ("answer1", "answer2")


def _meanings(names: Sequence[str], choices: Sequence[Region]) -> dict[str, Verdict]:
    """The meanings of the choices seen, and of every verdict's own name: an export may lack votes for one answer."""
    values = (choice.get("value") for choice in choices)
    found = (value.get("choices") for value in values if isinstance(value, Mapping))
    words = {word for chosen in found if isinstance(chosen, list) for word in chosen if isinstance(word, str)}
    own_names = {plain_word(name): side for name, side in zip(names, _SIDES, strict=True)}
    known = {word: own_names.get(plain_word(word)) or verdict_called(word) for word in [*map(str, Verdict), *words]}
    return {word: verdict for word, verdict in known.items() if verdict}


def _keys(tasks: Sequence[object], kind: type) -> dict[str, None]:
    """Keys of the tasks' data that hold a `kind`, in order of first appearance."""
    found = (task.get("data") for task in tasks if isinstance(task, Mapping))
    rows = (data for data in found if isinstance(data, Mapping))
    return {key: None for data in rows for key, value in data.items() if isinstance(value, kind)}


def _regions(tasks: Sequence[object]) -> Iterator[Region]:
    for annotation in annotations_in(tasks):
        result = annotation.get("result")
        for region in result if isinstance(result, list) else []:
            if isinstance(region, Mapping) and all(
                isinstance(region.get(name), str) and region[name] for name in ("type", "from_name", "to_name")
            ):
                yield region


def _usual(regions: Sequence[Region], name: str, default: str) -> str:
    """The most common value of `name` in the regions."""
    counted = Counter(region[name] for region in regions).most_common(1)
    return counted[0][0] if counted else default
