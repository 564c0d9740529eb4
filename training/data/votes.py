"""Votes to preferences: aggregated over annotators, split by prompt for life, kept in plain files."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from training.atomic import write_atomically
from training.data.records import Record, read_csv, read_json_lines, read_plain_lines
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
from training.errors import DataError

# Frozen for life: changing either moves prompts that were tested on into training.
_TRAIN_SHARE = 0.70
_SELECTION_SHARE = 0.15

Value = TypeVar("Value", bound=Hashable)
PairKey = tuple[str, str, str]  # prompt, then the two answers in alphabetical order


def split_of(prompt: str) -> Split:
    """The part of the data a prompt belongs to: 70% train, 15% selection, 15% test, by a hash of its words.

    Whitespace doesn't count, so a prompt that was only laid out anew stays where it was.
    """
    words = " ".join(prompt.split())
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < _TRAIN_SHARE:
        return Split.TRAIN
    return Split.SELECTION if position < _TRAIN_SHARE + _SELECTION_SHARE else Split.TEST


def aggregate(judgements: Iterable[Judgement]) -> list[Preference]:
    """All votes on each pair of answers, whichever stood left, as one preference a pair.

    A tie counts half a vote for each. Judgements that say nothing about which answer is better (both bad, the same
    text twice, a blank answer) are left out. The result doesn't depend on the judgements' order.

    Returns:
        Preferences by prompt, then answers, in alphabetical order.
    """
    ballots = _ballots(judgements)
    return [_preference(key, ballots[key]) for key in sorted(ballots)]


def agreement(judgements: Iterable[Judgement]) -> float | None:
    """How often two annotators say the same of the same pair: the share of agreeing votes among all such twosomes.

    Returns:
        A share in [0, 1], or None where no pair was judged by two people.
    """
    same = total = 0
    for key, votes in _ballots(judgements).items():
        for one, other in combinations(votes, 2):
            if one.annotator != other.annotator:
                total += 1
                same += _share_for(key[1], one) == _share_for(key[1], other)
    return same / total if total else None


def demonstrations_from(judgements: Iterable[Judgement]) -> list[Demonstration]:
    """The answers that people rewrote and then did not rank below the other: what supervised training imitates."""
    found = set()
    for judgement in judgements:
        for answer, loses in ((judgement.answer1, Verdict.ANSWER2), (judgement.answer2, Verdict.ANSWER1)):
            if answer.edited and answer.text.strip() and judgement.verdict not in (loses, Verdict.BOTH_BAD):
                found.add((judgement.prompt, answer.text))
    return [Demonstration(prompt, answer) for prompt, answer in sorted(found)]


def dataset_digest(preferences: Iterable[Preference]) -> str:
    """A fingerprint of what training sees (texts and votes), the same in any order and whoever voted.

    Returns:
        64 hexadecimal digits.
    """
    rows = sorted(json.dumps([p.prompt, p.chosen, p.rejected, p.p_chosen, p.votes]) for p in preferences)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def read_preferences(path: Path | str) -> list[Preference]:
    """Read JSON lines in TRL's standard preference format; our extras (`p_chosen`, `votes`, ...) are optional.

    Raises:
        DataError: names the file and line, what was got and what was expected.
    """
    return [_preference_from(record) for record in read_json_lines(Path(path))]


def write_preferences(path: Path | str, preferences: Iterable[Preference]) -> None:
    """Write JSON lines that `read_preferences` and TRL read; the file appears whole or not at all."""
    _write_rows(path, [_preference_row(preference) for preference in preferences])


def read_prompts(path: Path | str) -> list[PromptRecord]:
    """Read prompts, by the file's ending: .txt (one a line), .csv (a `prompt` column) or .jsonl.

    CSV and JSON lines may bring an answer to measure against, in `reference` or `label`.

    Raises:
        DataError: an unknown ending, no prompts, or a line that can't be used; names the file and line.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Iterable[Record]]] = {
        ".txt": lambda path: read_plain_lines(path, "prompt"),
        ".csv": read_csv,
        ".jsonl": read_json_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of prompt file", got=path.suffix, expected=" or ".join(sorted(readers)))
    prompts = [PromptRecord(r.text("prompt"), r.optional_text("reference", "label")) for r in reader(path)]
    if not prompts:
        raise DataError(f"{path} holds no prompts", expected="at least one")
    return prompts


def write_prompts(path: Path | str, prompts: Iterable[PromptRecord]) -> None:
    """Write JSON lines that `read_prompts` reads; the file appears whole or not at all."""
    _write_rows(
        path, [{"prompt": p.prompt} | ({} if p.reference is None else {"reference": p.reference}) for p in prompts]
    )


def read_demonstrations(path: Path | str) -> list[Demonstration]:
    """Read JSON lines of `prompt` and `answer` (or `label`, or `completion`).

    Raises:
        DataError: names the file and line, what was got and what was expected.
    """
    records = read_json_lines(Path(path))
    return [Demonstration(r.text("prompt"), r.text("answer", "label", "completion")) for r in records]


def write_demonstrations(path: Path | str, demonstrations: Iterable[Demonstration]) -> None:
    """Write JSON lines that `read_demonstrations` reads; the file appears whole or not at all."""
    _write_rows(path, [{"prompt": d.prompt, "answer": d.answer} for d in demonstrations])


def _ballots(judgements: Iterable[Judgement]) -> dict[PairKey, list[Judgement]]:
    ballots: dict[PairKey, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        texts = judgement.answer1.text, judgement.answer2.text
        says_something = judgement.verdict is not Verdict.BOTH_BAD and texts[0] != texts[1]
        if says_something and all(text.strip() for text in texts):
            ballots[(judgement.prompt, min(texts), max(texts))].append(judgement)
    return ballots


def _share_for(text: str, judgement: Judgement) -> float:
    """The part of one vote that goes to an answer: 1, 0, or 0.5 for a tie."""
    if judgement.verdict is Verdict.TIE:
        return 0.5
    preferred = judgement.answer1 if judgement.verdict is Verdict.ANSWER1 else judgement.answer2
    return float(preferred.text == text)


def _preference(key: PairKey, votes: Sequence[Judgement]) -> Preference:
    prompt, first, second = key
    for_first = sum(_share_for(first, vote) for vote in votes)
    chosen, rejected = (first, second) if 2 * for_first >= len(votes) else (second, first)
    return Preference(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=max(for_first, len(votes) - for_first) / len(votes),
        votes=len(votes),
        annotators=tuple(sorted({vote.annotator for vote in votes})),
        source=PreferenceSource(
            project_id=_if_all_agree(vote.project_id for vote in votes),
            task_id=_if_all_agree(vote.task_id for vote in votes),
            annotation_ids=tuple(sorted({vote.annotation_id for vote in votes if vote.annotation_id is not None})),
            chosen_version=_if_all_agree(_author(chosen, vote) for vote in votes),
            rejected_version=_if_all_agree(_author(rejected, vote) for vote in votes),
        ),
    )


def _author(text: str, judgement: Judgement) -> str | None:
    """The version that wrote a text; None for what a person rewrote."""
    answer: JudgedAnswer = judgement.answer1 if judgement.answer1.text == text else judgement.answer2
    return None if answer.edited else answer.model_version


def _if_all_agree(values: Iterable[Value]) -> Value | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _preference_from(record: Record) -> Preference:
    prompt, chosen, rejected = record.text("prompt"), record.text("chosen"), record.text("rejected")
    if chosen == rejected:
        raise record.fault('"chosen" and "rejected" are the same text', got=chosen, expected="two different answers")
    source = record.nested("source")
    return Preference(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=record.number("p_chosen", default=1.0, low=0.5, high=1.0),
        votes=record.whole_number("votes", default=1, low=1) or 1,
        annotators=tuple(record.list_of("annotators", str)),
        source=PreferenceSource(
            project_id=source.whole_number("project_id", default=None),
            task_id=source.whole_number("task_id", default=None),
            annotation_ids=tuple(source.list_of("annotation_ids", int)),
            chosen_version=source.optional_text("chosen_version"),
            rejected_version=source.optional_text("rejected_version"),
        ),
    )


def _preference_row(preference: Preference) -> dict[str, object]:
    source = preference.source
    return {
        "prompt": preference.prompt,
        "chosen": preference.chosen,
        "rejected": preference.rejected,
        "p_chosen": preference.p_chosen,
        "votes": preference.votes,
        "annotators": list(preference.annotators),
        "source": {
            "project_id": source.project_id,
            "task_id": source.task_id,
            "annotation_ids": list(source.annotation_ids),
            "chosen_version": source.chosen_version,
            "rejected_version": source.rejected_version,
        },
    }


def _write_rows(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    write_atomically(Path(path), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
