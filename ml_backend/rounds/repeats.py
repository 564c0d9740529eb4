"""Pairs that are shown once more, sides swapped, so that a person can be measured against themself. Pure.

The task that shows a pair again has it in its `meta`, with who wrote each answer: whatever version serves when somebody
opens it, and whatever was interrupted before, it shows that pair and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ml_backend.labels import LabelConfig, ShownAnswer, live_prediction, pair_digest, shown_pair, verdict_of
from ml_backend.rounds.places import OURS, Task, prompt_digest, round_of
from training.data import Verdict

_DECIDED = (Verdict.ANSWER1, Verdict.ANSWER2, Verdict.TIE)
_TWO_TO_THE_64 = 2**64


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer as it stands in the `meta` of the task that shows it again."""

    text: str
    version: str
    round: int
    cut: bool


def repeat_key(meta: object) -> str | None:
    """What identifies the pair that a task shows again; None for any other task. A project has one task for each."""
    note = _note_in(meta)
    key = note.get("key") if note else None
    return key if isinstance(key, str) else None


def repeat_of(task: Task, config: LabelConfig, share: float) -> tuple[str, dict[str, Any]] | None:
    """The task that shows a judged task's pair once more, and its key; None if none is to.

    Whether it is to follows from the prompt and the pair alone. It has to be judged, one answer chosen or a tie, and
    nobody may have rewritten it in that judgement; it has to be known who wrote the answers; and it may not have been
    shown again already.

    Args:
        task: a task with its annotations, complete or not.
        config: a live config.
        share: of judged pairs, how many are shown again.
    """
    prompt = config.prompt_of(task.get("data"))
    if not prompt or task.get("is_labeled") is False or repeat_key(task.get("meta")) is not None:
        return None
    left, right = next(_decided(task, config), (None, None))
    if left is None or right is None:
        return None
    digest = prompt_digest(prompt)
    key = f"repeat {digest} {pair_digest(left.text, right.text)}"
    if not _is_drawn(key, share):
        return None
    pair = [asdict(_noted(answer, task)) for answer in (right, left)]
    meta = task.get("meta")
    note = {"key": key, "prompt": digest, "pair": pair}
    kept = dict(meta) if isinstance(meta, Mapping) else {}
    return key, {"data": dict(task["data"]), "meta": {**kept, OURS: {"after": task["id"], "repeat": note}}}


def repeat_prediction(task: Task, config: LabelConfig, version: str) -> dict[str, Any] | None:
    """Fill the two answer cards of a task that shows a pair again, under the name of the version that serves now.

    Each answer's region names its author and its round, as when it was first shown. How the pair was chosen isn't said:
    this time it wasn't.

    Returns:
        None if the task is no such task, or the label config asks something else by now.
    """
    note = _note_in(task.get("meta"))
    prompt = config.prompt_of(task.get("data"))
    if note is None or not prompt or note.get("prompt") != prompt_digest(prompt):
        return None
    listed = note.get("pair")
    pair = [answer for item in (listed if isinstance(listed, list) else []) if (answer := _read(item)) is not None]
    if len(pair) != 2:
        return None
    left, right = pair
    shown = live_prediction(
        config, left.text, right.text, version, cut=(left.cut, right.cut), authors=(left.version, right.version)
    )
    for region, answer in zip(shown["result"], pair, strict=True):
        region["meta"] |= {"round": answer.round, "repeat": True}
    return shown


def _decided(task: Task, config: LabelConfig) -> Iterator[tuple[ShownAnswer, ShownAnswer]]:
    """The pairs of a task's judgements that say which answer is better, or that neither is, as they were proposed."""
    found = task.get("annotations")
    for annotation in found if isinstance(found, list) else []:
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled"):
            continue
        pair = shown_pair(annotation, config)
        decided = pair is not None and verdict_of(annotation, config) in _DECIDED
        if pair and decided and all(answer.version and answer.as_proposed for answer in pair):
            yield pair


def _noted(answer: ShownAnswer, task: Task) -> _Answer:
    meta = answer.region.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    number = meta.get("round")
    return _Answer(
        answer.text, str(answer.version), number if type(number) is int else round_of(task), meta.get("cut") is True
    )


def _note_in(meta: object) -> Mapping[str, Any] | None:
    ours = meta.get(OURS) if isinstance(meta, Mapping) else None
    note = ours.get("repeat") if isinstance(ours, Mapping) else None
    return note if isinstance(note, Mapping) else None


def _read(item: object) -> _Answer | None:
    """An answer from a task's `meta`, which anybody may have changed."""
    if not isinstance(item, Mapping):
        return None
    text, version, number, cut = (item.get(name) for name in ("text", "version", "round", "cut"))
    if isinstance(text, str) and text.strip() and isinstance(version, str) and version and type(number) is int:
        return _Answer(text, version, number, cut is True)
    return None


def _is_drawn(key: str, share: float) -> bool:
    """Whether a pair is among the share; who is drawn for a share is drawn for any greater one."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * _TWO_TO_THE_64
