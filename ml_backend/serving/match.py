"""Champion and challenger at work together: some tasks get one answer of each, the others two of the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ml_backend.contest import in_contest, joint_name
from ml_backend.lines import ProjectSettings
from ml_backend.serving.salvage import salvaged
from ml_backend.serving.version import Answer, AnswerPair, LoadedVersion, Question, fair_pairs, seed_of


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Two loaded versions of a line that answer under one name, so that nobody sees who wrote what.

    share: of the tasks that are asked about both.
    """

    champion: LoadedVersion
    challenger: LoadedVersion
    share: float

    @property
    def name(self) -> str:
        """The name that belongs to both."""
        return joint_name(self.champion.name, self.challenger.name)

    @property
    def judges(self) -> bool:
        """Whether the champion has a reward model."""
        return self.champion.judges

    def told(self, settings: ProjectSettings) -> Match:
        """The same two, answering as a project's own settings say.

        Raises:
            ModelError: they are to be told a system prompt, but have no chat template.
        """
        return replace(self, champion=self.champion.told(settings), challenger=self.challenger.told(settings))

    def propose(self, questions: Sequence[Question]) -> list[AnswerPair]:
        """Sample a pair of answers to each prompt: one of each version, or for the other tasks two of the champion.
        Which it is depends on the key alone. See `LoadedVersion.propose`.
        """
        mixed = [index for index, (key, _) in enumerate(questions) if in_contest(key, self.share)]
        alone = sorted({*range(len(questions))} - {*mixed})
        pairs: dict[int, AnswerPair] = {}
        if mixed:
            both = salvaged(self._propose, [questions[i] for i in mixed], lambda _: AnswerPair("", "", self.name))
            pairs |= zip(mixed, both, strict=True)
        if alone:
            own = self.champion.propose([questions[i] for i in alone])
            author = self.champion.name
            pairs |= zip(alone, (replace(p, version=self.name, authors=(author, author)) for p in own), strict=True)
        return [pairs[index] for index in range(len(questions))]

    def log_odds(self, answers: Sequence[Answer]) -> list[float]:
        """Score answers with the champion's reward model; see `LoadedVersion.log_odds`."""
        return self.champion.log_odds(answers)

    def _propose(self, questions: Sequence[Question]) -> list[AnswerPair]:
        return fair_pairs(self.name, questions, self._sample)

    def _sample(self, questions: Sequence[Question], attempt: int) -> list[AnswerPair]:
        drawn = zip(
            questions,
            self.champion.draw(questions, attempt, 1),
            self.challenger.draw(questions, attempt, 1),
            strict=True,
        )
        pairs = []
        for (key, _), ours, theirs in drawn:
            if not ours or not theirs:
                pairs.append(AnswerPair("", "", self.name))
                continue
            sides = [(*ours[0], self.champion.name), (*theirs[0], self.challenger.name)]
            if seed_of(key, self.name, "side") % 2:
                sides.reverse()
            (left, left_cut, left_by), (right, right_cut, right_by) = sides
            pairs.append(AnswerPair(left, right, self.name, (left_cut, right_cut), (left_by, right_by)))
        return pairs


Answerer = LoadedVersion | Match
"""What answers for a line."""
