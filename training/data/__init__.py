"""The data that training reads: judgements, preferences, prompts, demonstrations, and their files."""

from training.data.files import (
    PAIR_SCORES,
    read_demonstrations,
    read_pair_scores,
    read_preferences,
    read_prompts,
    write_demonstrations,
    write_pair_scores,
    write_preferences,
    write_prompts,
)
from training.data.hub import Column, save_dataset
from training.data.prompt_sources import PromptSource, Row, read_rows
from training.data.prompts import (
    Message,
    Prompt,
    messages_key,
    prompt_as_json,
    prompt_from_json,
    prompt_in_words,
    role_called,
    shown_text,
    two_endings,
)
from training.data.records import REFERENCE_KEYS, LeftOut, Reading
from training.data.split import split_of
from training.data.tables import read_text, separator_of
from training.data.tasks import ANSWERS, Task
from training.data.types import Demonstration, JudgedAnswer, Judgement, Preference, PromptRecord, Split, Verdict
from training.data.votes import (
    PairKey,
    aggregate,
    agreement,
    dataset_digest,
    demonstrations_from,
    pair_of,
    rewrites_from,
)

__all__ = [
    "ANSWERS",
    "PAIR_SCORES",
    "REFERENCE_KEYS",
    "Column",
    "Demonstration",
    "JudgedAnswer",
    "Judgement",
    "LeftOut",
    "Message",
    "PairKey",
    "Preference",
    "Prompt",
    "PromptRecord",
    "PromptSource",
    "Reading",
    "Row",
    "Split",
    "Task",
    "Verdict",
    "aggregate",
    "agreement",
    "dataset_digest",
    "demonstrations_from",
    "messages_key",
    "pair_of",
    "prompt_as_json",
    "prompt_from_json",
    "prompt_in_words",
    "read_demonstrations",
    "read_pair_scores",
    "read_preferences",
    "read_prompts",
    "read_rows",
    "read_text",
    "rewrites_from",
    "role_called",
    "save_dataset",
    "separator_of",
    "shown_text",
    "split_of",
    "two_endings",
    "write_demonstrations",
    "write_pair_scores",
    "write_preferences",
    "write_prompts",
]
