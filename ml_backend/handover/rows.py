"""A line's data as rows in the forms that other tools read. Pure.

TRL's trainers read `prompt`, `chosen` and `rejected` (or `completion`), either as texts that join with nothing between
them, or as messages of a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from training.data import Column, Demonstration, Preference, Prompt, PromptRecord, Split, split_of

if TYPE_CHECKING:
    from training.models import TextCodec

Form = Literal["standard", "conversational"]
Row = dict[str, Any]
SPLITS = tuple(split.value for split in Split)


@dataclass(frozen=True, slots=True)
class LineData:
    """What a line learns from, and the prompts that it is asked."""

    preferences: Sequence[Preference]
    demonstrations: Sequence[Demonstration] = ()
    prompts: Sequence[PromptRecord] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind by split, what their columns hold, and how many `ties` were left out."""

    name: str
    columns: dict[str, Column]
    splits: dict[str, list[Row]] = field(default_factory=dict)
    ties: int = 0

    def counts(self) -> dict[str, int]:
        """How many rows each split has."""
        return {split: len(rows) for split, rows in self.splits.items()}


def own_rows(data: LineData) -> dict[str, list[Row]]:
    """Everything in rankloop's own form, each row with its split: nothing is left out, and ties are marked as such."""
    kinds: dict[str, Sequence[Preference | Demonstration | PromptRecord]] = {
        "preferences": data.preferences,
        "demonstrations": data.demonstrations,
        "prompts": data.prompts,
    }
    return {
        name: [{**asdict(item), "split": split_of(item.prompt).value} for item in items]
        for name, items in kinds.items()
    }


def tables(data: LineData, codec: TextCodec, form: Form, *, more: bool) -> list[Table]:
    """The tables that TRL's trainers read. A tie is no preference there, and is left out.

    Args:
        data: what there is.
        codec: joins prompts and answers as the line's model reads them.
        form: texts, or messages.
        more: also with columns that no trainer needs, such as the share of votes.
    """
    text: Column = "messages" if form == "conversational" else "text"
    decided = [preference for preference in data.preferences if not preference.is_tie]

    def preference(item: Preference) -> Row:
        prompt, chosen = _joined(codec, form, item.prompt, item.chosen)
        row = {"prompt": prompt, "chosen": chosen, "rejected": _joined(codec, form, item.prompt, item.rejected)[1]}
        return {**row, **_votes(item)} if more else row

    def demonstration(item: Demonstration) -> Row:
        prompt, answer = _joined(codec, form, item.prompt, item.answer)
        return {"prompt": prompt, "completion": answer}

    def prompt(item: PromptRecord) -> Row:
        row: Row = {"prompt": _joined(codec, form, item.prompt, "")[0]}
        return {**row, "reference": item.reference} if more else row

    preferences: dict[str, Column] = dict.fromkeys(("prompt", "chosen", "rejected"), text)
    prompts: dict[str, Column] = {"prompt": text}
    if more:
        preferences |= _VOTE_COLUMNS
        prompts["reference"] = "text"
    ties = len(data.preferences) - len(decided)
    demonstrations: dict[str, Column] = {"prompt": text, "completion": text}
    return [
        Table("preferences", preferences, _by_split(decided, preference), ties),
        Table("demonstrations", demonstrations, _by_split(data.demonstrations, demonstration)),
        Table("prompts", prompts, _by_split(data.prompts, prompt)),
    ]


_VOTE_COLUMNS: dict[str, Column] = {
    "p_chosen": "share",
    "votes": "count",
    "rewrite": "flag",
    "chosen_version": "text",
    "rejected_version": "text",
}


def _votes(item: Preference) -> Row:
    source = item.source
    return {
        "p_chosen": item.p_chosen,
        "votes": item.votes,
        "rewrite": source.rewrite,
        "chosen_version": source.chosen_version,
        "rejected_version": source.rejected_version,
    }


def _joined(codec: TextCodec, form: Form, prompt: Prompt, answer: str) -> tuple[Any, Any]:
    if form == "standard":
        return codec.as_texts(prompt, answer)
    messages = [{"role": message.role, "content": message.content} for message in codec.as_messages(prompt)]
    return messages, [{"role": "assistant", "content": answer.strip()}]


def _by_split(items: Sequence[Any], row: Callable[[Any], Row]) -> dict[str, list[Row]]:
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for item in items:
        splits[split_of(item.prompt).value].append(row(item))
    return splits
