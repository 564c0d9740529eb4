"""What an export's labeling configuration must have looked like, told from its results and its tasks' data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr as _quoted

from ml_backend.errors import LabelConfigError
from ml_backend.labels.config import LabelConfig, parse_label_config
from ml_backend.labels.judgements import config_for_export

_PROMPT_KEYS = ("prompt", "question", "instruction", "query", "text")
_NAMED = ("type", "from_name", "to_name")
_LEFT_OUT = frozenset({"reference", "label", "id", "meta"})

Region = Mapping[str, Any]


def infer_label_config(tasks: Sequence[object]) -> LabelConfig:
    """The labeling configuration that an export's results fit.

    The kind follows from the results' types (pairwise, ranker, or textarea with choices), names from `from_name` and
    `to_name`, keys from the tasks' data. What can't be told is taken to be as in this project's own configurations.
    """
    regions = list(_regions(tasks))
    kinds = Counter(region.get("type") for region in regions)
    try:
        if kinds["pairwise"] > kinds["textarea"]:
            return parse_label_config(_pairwise_xml(tasks, regions))
        if kinds["ranker"] > kinds["textarea"]:
            return parse_label_config(_ranker_xml(tasks, regions))
        if kinds["textarea"]:
            return parse_label_config(_live_xml(tasks, regions))
    except LabelConfigError:
        pass  # the results fit no configuration that can be told from them; every one is then counted as dropped
    return config_for_export(tasks)


def _pairwise_xml(tasks: Sequence[object], regions: Sequence[Region]) -> str:
    prompt = _prompt_key(tasks)
    answers = [key for key in _text_keys(tasks) if key != prompt]
    named = [key for key in answers if key.lower().startswith(("answer", "response", "completion", "output"))]
    left, right = sorted(named if len(named) == 2 else answers)[:2] if len(answers) > 1 else ("answer1", "answer2")
    control = _most_common(region["from_name"] for region in regions if region.get("type") == "pairwise")
    return (
        f"<View>{_text(prompt)}<Pairwise name={_quoted(control)} toName={_quoted(f'{left},{right}')}/>"
        f"{_text(left)}{_text(right)}</View>"
    )


def _ranker_xml(tasks: Sequence[object], regions: Sequence[Region]) -> str:
    ranker = [region for region in regions if region.get("type") == "ranker"]
    control, shown = (_most_common(region[name] for region in ranker) for name in ("from_name", "to_name"))
    items = next((key for data in _data(tasks) for key, value in data.items() if isinstance(value, list)), "items")
    return (
        f"<View>{_text(_prompt_key(tasks))}<List name={_quoted(shown)} value={_quoted('$' + items)}/>"
        f"<Ranker name={_quoted(control)} toName={_quoted(shown)}/></View>"
    )


def _live_xml(tasks: Sequence[object], regions: Sequence[Region]) -> str:
    areas = [region for region in regions if region.get("type") == "textarea"]
    choices = [region for region in regions if region.get("type") == "choices"]
    text = _most_common(region["to_name"] for region in areas)
    verdict = _most_common((region["from_name"] for region in choices), default="verdict")
    words = sorted({str(word) for region in choices for word in _chosen(region)})
    prompt = _prompt_key(tasks)
    answers = sorted({str(region["from_name"]) for region in areas})
    return (
        f"<View><Text name={_quoted(text)} value={_quoted('$' + prompt)}/>"
        + "".join(f"<TextArea name={_quoted(name)} toName={_quoted(text)}/>" for name in answers)
        + f"<Choices name={_quoted(verdict)} toName={_quoted(text)}>"
        + "".join(f"<Choice value={_quoted(word)}/>" for word in _with_both_answers(words))
        + "</Choices></View>"
    )


def _with_both_answers(words: Sequence[str]) -> list[str]:
    """The choices seen, and those every verdict has: an export may by chance hold no vote for one of the answers."""
    usual = ["answer1", "answer2", "tie", "both_bad"]
    return list(words) if not set(words) & set(usual) and len(words) > 1 else [*words, *sorted(set(usual) - set(words))]


def _prompt_key(tasks: Sequence[object]) -> str:
    keys = _text_keys(tasks)
    return next((key for name in _PROMPT_KEYS for key in keys if key.lower() == name), "prompt")


def _text_keys(tasks: Sequence[object]) -> list[str]:
    """Keys of the tasks' data that hold texts, in the order they first appear."""
    found = {key: None for data in _data(tasks) for key, value in data.items() if isinstance(value, str)}
    return [key for key in found if key not in _LEFT_OUT]


def _data(tasks: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        if isinstance(task, Mapping) and isinstance(task.get("data"), Mapping):
            yield task["data"]


def _regions(tasks: Iterable[object]) -> Iterator[Region]:
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, Mapping) else None
        for annotation in annotations if isinstance(annotations, list) else []:
            result = annotation.get("result") if isinstance(annotation, Mapping) else None
            for region in result if isinstance(result, list) else []:
                if isinstance(region, Mapping) and all(isinstance(region.get(name), str) for name in _NAMED):
                    yield region


def _chosen(region: Region) -> Sequence[object]:
    value = region.get("value")
    chosen = value.get("choices") if isinstance(value, Mapping) else None
    return chosen if isinstance(chosen, list) else []


def _most_common(names: Iterable[str], default: str = "") -> str:
    counted = Counter(names).most_common(1)
    return counted[0][0] if counted else default


def _text(key: str) -> str:
    return f"<Text name={_quoted(key)} value={_quoted('$' + key)}/>"
