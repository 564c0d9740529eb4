"""Predictions for tasks: pairs of answers to a prompt, or a verdict on answers that the task already has."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Protocol

from ml_backend.labels import (
    LabelConfig,
    judged_pair,
    live_prediction,
    pair_digest,
    pair_prediction,
    pairwise_prediction,
    parse_label_config,
    ranker_prediction,
)
from ml_backend.lines import ProjectSettings
from ml_backend.registry import DEFAULT_LINE
from ml_backend.rounds import pairs_shown, repeat_prediction
from ml_backend.serving.marks import with_rounds
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.version import Answer, AnswerPair, Question
from training.data import Prompt, prompt_in_words
from training.errors import DataError, RankloopError

FIRST_LOAD_WAIT_S = 20.0
"""How long a request waits for the first version to load."""
PENDING_SUFFIX = "-pending"
"""Suffix of the version name in a prediction that is still to be computed."""
FRESH_TRIES = 4
"""How often a pair is drawn until it is none that people judged for this prompt before."""
UNDECIDED = 0.5
"""The score of a pair with no stated preference."""

logger = logging.getLogger(__name__)

Task = Mapping[str, Any]
Prediction = dict[str, Any]


class Answering(Protocol):
    """Something that answers: a loaded version, or one behind a queue, which returns None for what came too late."""

    @property
    def name(self) -> str:
        """The version's name."""

    @property
    def judges(self) -> bool:
        """Whether it has a reward model."""

    def propose(self, questions: Sequence[Question]) -> Sequence[AnswerPair | None]:
        """Sample a pair of answers to each prompt."""

    def log_odds(self, answers: Sequence[Answer]) -> Sequence[float | None]:
        """Score answers to prompts with the reward model."""


class AnswerPairModel:
    """The champions as Label Studio sees them.

    Args:
        proposer: the loaded champions.
        propose_later: queues background proposals for a project's tasks.
        deadline_s: how long `predict` may take.
    """

    def __init__(self, proposer: Proposer, propose_later: Callable[[int], object], *, deadline_s: float) -> None:
        self._proposer = proposer
        self._propose_later = propose_later
        self._deadline_s = deadline_s

    def predict(
        self,
        tasks: Sequence[Task],
        label_config: str | None,
        project_id: int | None = None,
        *,
        line: str = DEFAULT_LINE,
        settings: ProjectSettings = ProjectSettings(),  # noqa: B008  # immutable
    ) -> list[Prediction]:
        """Answer as many tasks as the deadline allows; see `predictions_of`.

        Args:
            tasks: as Label Studio sends them.
            label_config: the project's labeling configuration.
            project_id: the project, if known; otherwise it is taken from the tasks.
            line: the project's line, whose champion answers.
            settings: the project's own settings.

        Returns:
            One prediction per task, in order. A task that can't be answered gets an empty result; if time ran out or no
            version is loaded, background proposals are queued as well.

        Raises:
            DataError: the tasks came without a labeling configuration.
            LabelConfigError: the labeling configuration has no answers to compare.
            ModelError: the champion's reward model is needed but can't be loaded.
        """
        config = parse_label_config(label_config) if label_config else None
        if not tasks:
            return []
        if config is None:
            raise DataError(
                "the tasks came without a labeling configuration", expected="label_config, the project's XML"
            )
        until = time.monotonic() + self._deadline_s
        self._proposer.wait_until_loaded(min(FIRST_LOAD_WAIT_S, self._deadline_s), line)
        version = self._proposer.asked(until=until, line=line, settings=settings)
        predictions = predictions_of(tasks, config, version)
        late = sum(prediction is None for prediction in predictions)
        project = tasks[0].get("project") if project_id is None else project_id
        if late and isinstance(project, int):
            try:
                self._propose_later(project)
            except RankloopError as error:  # still return the answers we have; reconciliation will propose for the rest
                logger.warning("%d tasks of project %d have no proposals for now: %s", late, project, error)
        return [prediction or _empty(f"{version.name}{PENDING_SUFFIX}") for prediction in predictions]


def predictions_of(tasks: Sequence[Task], config: LabelConfig, version: Answering) -> list[Prediction | None]:
    """Answer tasks: a pair of answers for a live config; a preference or a ranking for tasks that contain answers.

    Returns:
        One prediction per task, in order, with an empty result where there is nothing to predict; None for tasks that
        the version didn't answer.

    Raises:
        ModelError: the version's reward model is needed but can't be loaded.
    """
    if config.kind != "live":
        return _verdicts(tasks, config, version)
    return with_rounds(_pairs(tasks, config, version), tasks)


def _pairs(tasks: Sequence[Task], config: LabelConfig, version: Answering) -> list[Prediction | None]:
    """Fill the answer cards with samples from the policy; with the pair that was judged, where somebody judged one, or
    the task is there to show one once more.
    """
    known: dict[int, Prediction] = {}
    for index, task in enumerate(tasks):
        judged = judged_pair(task, config)
        shown = (
            pair_prediction(config, judged, version.name) if judged else repeat_prediction(task, config, version.name)
        )
        if shown is not None:
            known[index] = {"score": UNDECIDED, **shown}
    prompts = {
        index: prompt
        for index, task in enumerate(tasks)
        if index not in known and (prompt := config.prompt_of(task.get("data")))
    }
    pairs = _fresh_pairs(tasks, prompts, version)
    found: list[Prediction | None] = []
    for index in range(len(tasks)):
        if index in known:
            found.append(known[index])
        else:
            found.append(_live(config, pairs[index]) if index in pairs else _empty(version.name))
    return found


def _fresh_pairs(
    tasks: Sequence[Task], prompts: Mapping[int, Prompt], version: Answering
) -> dict[int, AnswerPair | None]:
    """A pair for each prompt, by the index of its task; flawed if only pairs came up that its people have judged."""
    keys = {index: seed_key(tasks[index], prompt) for index, prompt in prompts.items()}
    shown = {index: pairs_shown(tasks[index]) for index in prompts}
    pairs: dict[int, AnswerPair | None] = {}
    asked = list(prompts)
    for attempt in range(FRESH_TRIES):
        if not asked:
            break
        suffix = f" again {attempt}" if attempt else ""
        drawn = version.propose([(f"{keys[index]}{suffix}", prompts[index]) for index in asked])
        pairs |= zip(asked, drawn, strict=True)
        asked = [index for index in asked if _is_known(pairs[index], shown[index])]
    return pairs | {index: AnswerPair("", "", version.name) for index in asked}


def _is_known(pair: AnswerPair | None, shown: frozenset[str]) -> bool:
    return pair is not None and bool(shown) and pair_digest(pair.answer1, pair.answer2) in shown


def _verdicts(tasks: Sequence[Task], config: LabelConfig, version: Answering) -> list[Prediction | None]:
    """Preselect or rank each task's answers with the reward model; without one, predict nothing."""
    choices = [_answers_in(task, config) for task in tasks]
    if not (version.judges and config.shows_verdicts):
        return [_empty(version.name, UNDECIDED if choice else 0.0) for choice in choices]
    answers = [answer for choice in choices for answer in choice]
    scores = iter(version.log_odds(answers) if answers else [])
    verdict_on = _ranking if config.kind == "ranker" else _preference
    predictions: list[Prediction | None] = []
    for task, choice in zip(tasks, choices, strict=True):
        known = [score for score in islice(scores, len(choice)) if score is not None]
        if not choice or any(math.isnan(score) for score in known):
            predictions.append(_empty(version.name))
        else:
            predictions.append(verdict_on(config, task, known, version.name) if len(known) == len(choice) else None)
    return predictions


def seed_key(task: Task, prompt: Prompt) -> str:
    """The sampling seed's key for a task: its id, so that the same task always gets the same pair."""
    return f"task {task['id']}" if isinstance(task.get("id"), int) else f"prompt {prompt_in_words(prompt)}"


def _live(config: LabelConfig, pair: AnswerPair | None) -> Prediction | None:
    if pair is None:
        return None
    if pair.flawed:
        return _empty(pair.version)  # under the version's name, so that it isn't asked for again
    shown = live_prediction(
        config, pair.answer1, pair.answer2, pair.version, cut=pair.cut, authors=pair.authors, how=pair.how
    )
    return {"score": UNDECIDED, **shown}


def _answers_in(task: Task, config: LabelConfig) -> list[Answer]:
    """The answers in a task, each with its prompt; none if their ids aren't unique."""
    data = task.get("data")
    prompt, items = config.prompt_of(data), config.items_of(data)
    if prompt is None or len({item.id for item in items}) < len(items):
        return []
    return [(prompt, text) for text in config.answers_of(data) or [item.text for item in items]]


def _preference(config: LabelConfig, _task: Task, log_odds: Sequence[float], version: str) -> Prediction:
    """The answer that the reward model prefers."""
    left, right = log_odds
    if left == right:
        return _empty(version, UNDECIDED)
    return pairwise_prediction(config, "left" if left > right else "right", _sigmoid(abs(left - right)), version)


def _ranking(config: LabelConfig, task: Task, log_odds: Sequence[float], version: str) -> Prediction:
    """Rank the answers best first; the score is the confidence of the closest call between neighbours."""
    ranked = sorted(zip(log_odds, config.items_of(task.get("data")), strict=True), key=lambda pair: -pair[0])
    gaps = [better - worse for (better, _), (worse, _) in pairwise(ranked)]
    return ranker_prediction(config, [item.id for _, item in ranked], _sigmoid(min(gaps, default=0.0)), version)


def _empty(version: str, score: float = 0.0) -> Prediction:
    """An empty prediction in the form that Label Studio accepts."""
    return {"result": [], "score": score, "model_version": version}


def _sigmoid(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))
