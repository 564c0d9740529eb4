"""Reddit TL;DR, as used in the summarization studies: posts that end in `TL;DR:`, human summaries, comparisons.

References: Völske et al. 2017, "TL;DR: Mining Reddit to Learn Automatic Summarization"; Stiennon et al. 2020
(2009.01325).
"""

from __future__ import annotations

from training.data.hub import rows_of
from training.data.records import Record
from training.data.types import Demonstration, JudgedAnswer, Judgement, Preference, PromptRecord, Verdict
from training.data.votes import aggregate

MARK = "TL;DR:"
_SUMMARY = ("reference", "label", "summary", "completion")


def read_tldr_prompts(source: str, limit: int | None = None) -> list[PromptRecord]:
    """Posts, each with the summary a person wrote, if there is one, as its reference answer.

    Args:
        source: anything `rows_of` reads, with columns `prompt` and, usually, `label`.
        limit: the maximum number of rows to read.

    Raises:
        DataError: it can't be read, or a row has no prompt; names source and row.
    """
    found: dict[str, PromptRecord] = {}
    for row in rows_of(source, limit):
        summary = row.optional_text(*_SUMMARY)
        prompt = _ending_in_mark(row.text("prompt"))
        found.setdefault(prompt, PromptRecord(prompt, None if summary is None else _plain(summary)))
    return list(found.values())


def read_tldr_demonstrations(source: str, limit: int | None = None) -> list[Demonstration]:
    """Posts with the summaries people wrote, to imitate.

    Raises:
        DataError: it can't be read, or a row has no prompt or no summary; names source and row.
    """
    rows = rows_of(source, limit)
    return [Demonstration(_ending_in_mark(row.text("prompt")), _plain(row.text(*_SUMMARY))) for row in rows]


def read_tldr_preferences(source: str, limit: int | None = None) -> tuple[list[Preference], int]:
    """Comparisons of two summaries; several people's votes on the same two become one preference.

    Args:
        source: anything `rows_of` reads: rows of `prompt`, `chosen` and `rejected`, or rows of `info`, `summaries` and
            `choice`, as in the original study.
        limit: the maximum number of rows to read.

    Returns:
        The preferences, and how many uninformative rows were left out: identical summaries, a blank one, or no post.

    Raises:
        DataError: it can't be read, or a row has neither form; names source and row.
    """
    judgements, left_out = [], 0
    for row in rows_of(source, limit):
        judgement = _asked(row) if row.has("summaries") else _chosen(row)
        if judgement is None or judgement.answer1.text == judgement.answer2.text:
            left_out += 1
        else:
            judgements.append(judgement)
    return aggregate(judgements), left_out


def _chosen(row: Record) -> Judgement | None:
    """A row of `prompt`, `chosen` and `rejected`."""
    prompt = row.text("prompt")
    answers = []
    for name in ("chosen", "rejected"):
        if not row.has(name):
            row.text(name)  # raises the error that says what is missing
        value = row.value(name)
        if not isinstance(value, str):
            raise row.fault(f'"{name}" can\'t be used', got=value, expected="text")
        answers.append(_plain(value))
    return _judgement(prompt, answers[0], answers[1], first_won=True, annotator="")


def _asked(row: Record) -> Judgement | None:
    """A row of `info`, `summaries` and `choice`; None if it isn't about a post."""
    info = row.nested("info")
    if not info.has("post"):
        return None
    title = info.optional_text("title") or ""
    prompt = f"SUBREDDIT: r/{info.text('subreddit')}\nTITLE: {title}\nPOST: {info.text('post')}"
    texts = _texts(row)
    choice = row.whole_number("choice", default=None)
    if choice not in (0, 1):
        raise row.fault('"choice" can\'t be used', got=row.fields.get("choice"), expected="0 or 1")
    worker = row.fields.get("worker")
    return _judgement(prompt, *texts, first_won=choice == 0, annotator=worker if isinstance(worker, str) else "")


def _texts(row: Record) -> tuple[str, str]:
    """The two texts in `summaries`: a list of objects or, in older files, an object of lists."""
    found = row.value("summaries")
    texts: list[object] = []
    if isinstance(found, dict) and isinstance(found.get("text"), list):
        texts = found["text"]
    elif isinstance(found, list):
        texts = [item.get("text") if isinstance(item, dict) else None for item in found]
    known = [_plain(text) for text in texts if isinstance(text, str)]
    if len(texts) != 2 or len(known) != 2:
        raise row.fault('"summaries" can\'t be used', got=found, expected='two objects with a "text" each')
    return known[0], known[1]


def _judgement(prompt: str, first: str, second: str, *, first_won: bool, annotator: str) -> Judgement | None:
    if not first or not second:
        return None
    return Judgement(
        prompt=_ending_in_mark(prompt),
        answer1=JudgedAnswer(first),
        answer2=JudgedAnswer(second),
        verdict=Verdict.ANSWER1 if first_won else Verdict.ANSWER2,
        annotator=annotator,
    )


def _ending_in_mark(prompt: str) -> str:
    """The post, made to end in `TL;DR:` with nothing after the colon."""
    prompt = prompt.rstrip()
    return prompt if prompt.endswith(MARK) else f"{prompt}\n{MARK}"


def _plain(summary: str) -> str:
    """The summary without surrounding whitespace or a leading `TL;DR:`, which some files have."""
    return summary.strip().removeprefix(MARK).strip()
