"""Takes what is about an annotation, a task or a text out of a file's content. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

REMOVED = "[removed]"
SHORTEST_PART = 20
"""Texts at least this long are also found inside other texts; shorter ones only where they stand alone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to go: annotations and tasks of a project, by id, and texts, whoever wrote them."""

    project: int | None = None
    annotations: frozenset[int] = frozenset()
    tasks: frozenset[int] = frozenset()
    texts: frozenset[str] = frozenset()

    def also(self, texts: frozenset[str]) -> Wanted:
        """The same, and these texts."""
        return Wanted(self.project, self.annotations, self.tasks, self.texts | texts)


def scrubbed(name: str, content: bytes, wanted: Wanted) -> bytes:
    """A file's content without what is wanted gone; the same bytes if there is nothing of it."""
    text = content.decode("utf-8", "surrogateescape")
    if name.endswith(".jsonl"):
        lines = [_line(line, wanted) for line in text.splitlines(keepends=True)]
        return "".join(lines).encode("utf-8", "surrogateescape")
    if name.endswith(".json"):
        try:
            value = json.loads(text)
        except ValueError:
            return _plain(text, wanted).encode("utf-8", "surrogateescape")
        clean = _clean(value, wanted)
        clean = None if clean is _GONE else clean
        return content if clean == value else (json.dumps(clean, indent=2) + "\n").encode("utf-8", "surrogatepass")
    return _plain(text, wanted).encode("utf-8", "surrogateescape")


def texts_of(tasks: Any, wanted: Wanted) -> frozenset[str]:
    """The texts that only the wanted annotations of a snapshot hold, and those of wanted tasks."""
    theirs: set[str] = set()
    others: set[str] = set()
    for task in tasks if isinstance(tasks, list) else []:
        if not isinstance(task, Mapping):
            continue
        whole_task = _is_wanted_task(task, wanted)
        if whole_task:
            theirs |= set(_strings([task.get("data"), task.get("predictions")]))
        else:
            others |= set(_strings([task.get("data"), task.get("predictions")]))
        for annotation in task.get("annotations") or []:
            gone = whole_task or (_of_project(task, wanted) and _number(annotation) in wanted.annotations)
            values = annotation.get("result") if isinstance(annotation, Mapping) else None
            (theirs if gone else others).update(_written(values))
    return frozenset(text for text in theirs - others if len(text.split()) > 1)


class _Gone:
    """Stands for a value that is left out."""


_GONE = _Gone()


def _clean(value: Any, wanted: Wanted, *, in_list: bool = False) -> Any:
    """A value of a document without what is wanted gone: an entry of a list is left out, any other text replaced."""
    if isinstance(value, str):
        return value if not _has_text(value, wanted) else _GONE if in_list else REMOVED
    if isinstance(value, list):
        kept = (_clean(item, wanted, in_list=True) for item in value)
        return [item for item in kept if item is not _GONE]
    if not isinstance(value, Mapping):
        return value
    if _is_about(value, wanted):
        return _GONE
    clean: dict[str, Any] = {}
    for key, item in value.items():
        if key == "annotations" and isinstance(item, list) and _of_project(value, wanted):
            item = [each for each in item if _number(each) not in wanted.annotations]
        new = _clean(item, wanted)
        clean[REMOVED if _has_text(key, wanted) else key] = None if new is _GONE else new
    return clean


def _is_about(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a row of training data comes from a wanted annotation or task, or is a wanted task."""
    source = row.get("source")
    if isinstance(source, Mapping) and source.get("project_id") in (None, wanted.project):
        ids = source.get("annotation_ids")
        if wanted.annotations.intersection(ids if isinstance(ids, list) else []):
            return True
        if source.get("task_id") in wanted.tasks:
            return True
    return _is_wanted_task(row, wanted)


def _is_wanted_task(row: Mapping[str, Any], wanted: Wanted) -> bool:
    return "data" in row and "annotations" in row and _of_project(row, wanted) and _number(row) in wanted.tasks


def _of_project(task: Mapping[str, Any], wanted: Wanted) -> bool:
    return wanted.project is not None and task.get("project", wanted.project) == wanted.project


def _number(row: object) -> int | None:
    number = row.get("id") if isinstance(row, Mapping) else None
    return number if isinstance(number, int) else None


def _has_text(text: str, wanted: Wanted) -> bool:
    plain = text.strip()
    if plain in wanted.texts:
        return True
    return any(len(part) >= SHORTEST_PART and part in text for part in wanted.texts)


def _line(line: str, wanted: Wanted) -> str:
    try:
        value = json.loads(line) if line.strip() else None
    except ValueError:
        return _plain(line, wanted)
    if any(_has_text(text, wanted) for text in _strings(value)):
        return ""  # a row of which one text goes says nothing without it
    return "" if isinstance(value, Mapping) and _is_about(value, wanted) else line


def _plain(text: str, wanted: Wanted) -> str:
    for part in sorted(wanted.texts, key=len, reverse=True):
        if len(part) >= SHORTEST_PART:
            text = text.replace(part, REMOVED)
    lines = text.splitlines(keepends=True)
    return "".join(REMOVED + "\n" if line.strip() in wanted.texts else line for line in lines)


def _written(regions: Any) -> Iterator[str]:
    """The texts in an annotation's regions, as they stand and as they were proposed."""
    for region in regions if isinstance(regions, list) else []:
        if isinstance(region, Mapping):
            value, meta = region.get("value"), region.get("meta")
            yield from _strings(value.get("text") if isinstance(value, Mapping) else None)
            yield from _strings(meta.get("proposed") if isinstance(meta, Mapping) else None)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
