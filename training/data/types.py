"""The domain's types: judgements people made, preferences to learn from, prompts to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from training.data.prompts import Prompt


class Verdict(StrEnum):
    """A person's verdict on a pair. The values are those Label Studio stores (the choices' aliases)."""

    ANSWER1 = "answer1"
    ANSWER2 = "answer2"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class Split(StrEnum):
    """The part of the data a prompt permanently belongs to."""

    TRAIN = "train"
    SELECTION = "selection"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One answer as the person saw or rewrote it.

    `proposed` is the text the model proposed if the person changed it, else None.
    `model_version` is the version that wrote it, if known.
    """

    text: str
    model_version: str | None = None
    proposed: str | None = None

    @property
    def edited(self) -> bool:
        """Whether the person rewrote what the model proposed."""
        return self.proposed is not None and self.proposed != self.text


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's verdict on one pair of answers to one prompt.

    `lead_time` is how many seconds it took, as the labeling page measured. `sides` says how it was decided which answer
    stands on which side: `shuffled` by the loop, `given` by the task's data, or None where there are no sides, as in a
    ranking, or where they follow from how the pair was shown before. `untouched` says whether the annotation is what
    the page had preselected; None if nothing was. `selection` says how the pair was chosen from several candidates;
    None where it wasn't, or nobody knows. `repeat` says that the pair was shown once more after it had been judged.
    """

    prompt: Prompt
    answer1: JudgedAnswer
    answer2: JudgedAnswer
    verdict: Verdict
    annotator: str
    project_id: int | None = None
    task_id: int | None = None
    annotation_id: int | None = None
    updated_at: str | None = None
    lead_time: float | None = None
    sides: Literal["shuffled", "given"] | None = None
    untouched: bool | None = None
    selection: str | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class PreferenceSource:
    """Where a preference comes from, so that it can be traced back to the judgements behind it.

    `rewrite` says that nobody compared the two answers: a person rewrote `rejected` as `chosen`. `left_votes` and
    `right_votes` count the votes for the answer on either side, whichever of the two that was, where the loop shuffled
    the sides; ties are neither.
    `selection` is as in `Judgement`.
    """

    project_id: int | None = None
    task_id: int | None = None
    annotation_ids: tuple[int, ...] = ()
    chosen_version: str | None = None
    rejected_version: str | None = None
    rewrite: bool = False
    left_votes: int = 0
    right_votes: int = 0
    selection: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """All votes on one pair, in TRL's preference format with our extras.

    `p_chosen` is the share of votes for `chosen` (a tie counts half), in [0.5, 1]; 0.5 is a tie. `rejected` may be
    empty: a blank answer that lost.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    p_chosen: float = 1.0
    votes: int = 1
    annotators: tuple[str, ...] = ()
    source: PreferenceSource = field(default_factory=PreferenceSource)

    @property
    def is_tie(self) -> bool:
        """Whether the votes are evenly split."""
        return self.p_chosen == 0.5


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A prompt for PPO, with the reference answer its reward is measured against, if any."""

    prompt: Prompt
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer a person wrote or rewrote: what supervised training imitates."""

    prompt: Prompt
    answer: str
