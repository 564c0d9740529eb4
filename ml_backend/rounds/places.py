"""A task's place among those with the same prompt: its round, and its try in that round. Pure.

A judged task is never shown again, so a prompt's next round or try is a new task with the same data. It has its place
in its `meta`, from which everything here can be found out again: Label Studio is the record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_backend.labels import LabelConfig, pair_digest, shown_pair, verdict_of
from training.data import Prompt, Verdict, prompt_as_json

OURS = "rankloop"
"""Where a made task's `meta` has what this program alone reads, beside `round` and `try`."""
MOST_SHOWN = 100

Task = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The prompt's fingerprint, the round and the try in it, both from 1 on."""

    prompt: str
    round: int = 1
    attempt: int = 1

    @property
    def key(self) -> str:
        """As text; a project has one made task for each."""
        return f"{self.prompt} {self.round} {self.attempt}"


def place_in(meta: object) -> Place | None:
    """The place of a task that was made for a later round or try; None for any other."""
    if not isinstance(meta, Mapping) or not isinstance(meta.get(OURS), Mapping):
        return None
    prompt, number, attempt = meta[OURS].get("prompt"), meta.get("round"), meta.get("try")
    if isinstance(prompt, str) and type(number) is int and type(attempt) is int:
        return Place(prompt, number, attempt)
    return None


def round_of(task: Task) -> int:
    """The round that a task belongs to; 1 for any that wasn't made for a later one."""
    place = place_in(task.get("meta"))
    return place.round if place else 1


def pairs_shown(task: Task) -> frozenset[str]:
    """The pairs that people judged for the prompt in the tasks before this one; see `labels.pair_digest`."""
    meta = task.get("meta")
    ours = meta.get(OURS) if isinstance(meta, Mapping) else None
    shown = ours.get("shown") if isinstance(ours, Mapping) else None
    return frozenset(text for text in shown if isinstance(text, str)) if isinstance(shown, list) else frozenset()


def next_place(task: Task, config: LabelConfig, *, champion: str, rounds: int, tries: int) -> Place | None:
    """Where a judged task's prompt is due next; None if it isn't, or not yet.

    While all who judged the task call both answers bad, the prompt is due for another try in the same round. Otherwise
    it is due for the next round once the champion is newer than the versions that wrote the pair.

    Args:
        task: a task with its annotations, complete or not.
        config: a live config.
        champion: the name of the line's champion.
        rounds: how many rounds there are.
        tries: how many tries a round has.
    """
    prompt = config.prompt_of(task.get("data"))
    found = task.get("annotations")
    annotations = [a for a in found if isinstance(a, Mapping)] if isinstance(found, list) else []
    judged = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    if not prompt or not judged or task.get("is_labeled") is False:
        return None
    fingerprint = prompt_digest(prompt)
    own = place_in(task.get("meta"))
    place = own if own is not None and own.prompt == fingerprint else Place(fingerprint)
    all_bad = all(verdict_of(annotation, config) is Verdict.BOTH_BAD for annotation in judged)
    if all_bad and place.attempt < tries:
        return Place(fingerprint, place.round, place.attempt + 1)
    pairs = [pair for annotation in judged if (pair := shown_pair(annotation, config)) is not None]
    authors = {answer.version for pair in pairs for answer in pair if answer.version is not None}
    if place.round < rounds and _is_newer(champion, authors):
        return Place(fingerprint, place.round + 1)
    return None


def made_task(task: Task, config: LabelConfig, place: Place) -> dict[str, Any]:
    """The task for a prompt's next place: the same data, and what was shown so far, so that it isn't shown again."""
    meta = task.get("meta")
    pairs = [shown_pair(a, config) for a in task.get("annotations") or [] if isinstance(a, Mapping)]
    shown = pairs_shown(task) | {pair_digest(one.text, other.text) for one, other in filter(None, pairs)}
    ours = {"prompt": place.prompt, "after": task["id"], "shown": sorted(shown)[:MOST_SHOWN]}
    kept = dict(meta) if isinstance(meta, Mapping) else {}
    return {"data": dict(task["data"]), "meta": {**kept, "round": place.round, "try": place.attempt, OURS: ours}}


def prompt_digest(prompt: Prompt) -> str:
    """A fingerprint of a prompt, whatever its spacing."""
    said = " ".join(prompt.split()) if isinstance(prompt, str) else json.dumps(prompt_as_json(prompt))
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def _is_newer(champion: str, authors: set[str]) -> bool:
    """Whether the champion comes after all of these versions, as far as they are of its line."""
    model, _, number = champion.rpartition("-v")
    numbers = [name.removeprefix(f"{model}-v") for name in authors if name.startswith(f"{model}-v")]
    newest = max((int(other) for other in numbers if other.isdecimal()), default=1)  # a line's first is the base model
    return number.isdecimal() and int(number) > newest
