"""What the backend does for Label Studio: answer tasks, and pass on what happened in a project.

`predict(tasks, context)` and `fit(event, data)` follow label-studio-ml 2.x, so the same model can be hosted there.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from ml_backend.labels.judgements import (
    LabelConfig,
    live_prediction,
    pairwise_prediction,
    parse_label_config,
    ranker_prediction,
)
from ml_backend.observe.metrics import PENDING_SUFFIX
from training.errors import DataError, RankloopError

if TYPE_CHECKING:
    from ml_backend.serving.proposer import Proposer
    from ml_backend.serving.version import AnswerPair

FIRST_LOAD_WAIT_S = 20.0
"""How long a request waits for the very first version to be loaded."""
JUDGEMENT_ACTIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"}

logger = logging.getLogger(__name__)

Task = Mapping[str, Any]
Prediction = dict[str, Any]
Answer = tuple[str, str]
ChoicesOf = Callable[[LabelConfig, Task], list[Answer]]
VerdictOn = Callable[[LabelConfig, Task, Sequence[float], str], Prediction]
COUNTED = (
    "Label Studio is set to start training on every submission, so this counts as one judgement more: a cycle starts "
    "by itself once enough are new. `rankloop status` says how many are missing, `rankloop train --project {}` starts "
    "one now."
)
UNDECIDED = 0.5
"""The score of a pair of which nobody has said which answer is better."""


class JobQueue(Protocol):
    """Where work is put that takes longer than a request may. Every call returns within milliseconds."""

    def judgement_arrived(self, project_id: int) -> object:
        """Annotations of the project changed: count them, and train if there are enough."""

    def start_training(self, project_id: int) -> Mapping[str, Any]:
        """Train now; says what became of it (`job`, `status`, `message`)."""

    def propose(self, project_id: int) -> object:
        """Propose answers for the project's tasks that have none."""

    def status(self) -> Mapping[str, Any]:
        """What is queued, running, done and failed."""


class AnswerPairModel:
    """The champion as Label Studio sees it: one object per request, sharing one proposer.

    Args:
        label_config: the project's labeling configuration; None where only `fit` is wanted.
        proposer: the loaded champion.
        jobs: takes what can't be done within a request.
        model_name: names the version while none is known yet.
        deadline_s: how long `predict` may take.
        project_id: the project asked for, where known.

    Raises:
        LabelConfigError: the labeling configuration has no answers to compare.
    """

    def __init__(
        self,
        label_config: str | None,
        proposer: Proposer,
        jobs: JobQueue,
        *,
        model_name: str,
        deadline_s: float,
        project_id: int | None = None,
    ) -> None:
        self._config = _parsed(label_config) if label_config else None
        self._proposer = proposer
        self._jobs = jobs
        self._model_name = model_name
        self._deadline_s = deadline_s
        self._project_id = project_id

    @property
    def model_version(self) -> str:
        """The version that answers. While the champion is being loaded that is its name already: Label Studio then
        shows what it has stored of that version, and asks for the rest, which waits for the model.
        """
        return self._proposer.expected or f"{self._model_name}-loading"

    def predict(self, tasks: Sequence[Task], context: Mapping[str, Any] | None = None) -> list[Prediction]:
        """Answer tasks: pairs of answers for a live config, a preference or an order where the tasks bring answers.

        Returns:
            One prediction per task, in order. A task that can't be answered gets an empty result; where that is for
            want of time or of a loaded version, it is also proposed for in the background.

        Raises:
            DataError: there are tasks, but no labeling configuration came with them.
            ModelError: the champion's reward model is needed and can't be loaded.
        """
        if not tasks:
            return []
        if self._config is None:
            raise DataError(
                "the tasks came without a labeling configuration", expected="label_config, the project's XML"
            )
        if context:
            logger.debug("interactive labeling asks; its context is not needed to answer")
        until = time.monotonic() + self._deadline_s
        self._proposer.wait_until_loaded(min(FIRST_LOAD_WAIT_S, self._deadline_s))
        answer = {"live": self._propose_pairs, "pairwise": self._prefer, "ranker": self._order}[self._config.kind]
        predictions = answer(tasks, self._config, until)
        late = [task for task, prediction in zip(tasks, predictions, strict=True) if prediction is None]
        if late:
            self._propose_later(late)
        pending = _empty(f"{self.model_version}{PENDING_SUFFIX}")
        return [dict(pending) if prediction is None else prediction for prediction in predictions]

    def fit(self, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Pass on what happened in Label Studio; the work itself is done elsewhere, later.

        Args:
            event: the webhook's action.
            data: the webhook's payload.

        Raises:
            DataError: training is wanted, but the payload doesn't say for which project.
            EdgeError: the job queue can't be reached.
        """
        project_id = self._project_of(data)
        if event == "START_TRAINING":
            if project_id is None:
                raise DataError("START_TRAINING came without a project", expected="project.id in the payload")
            if _sent_at_every_save(data):
                self._jobs.judgement_arrived(project_id)
                return {"job": None, "status": "queued", "message": COUNTED.format(project_id)}
            return {"job": None, "status": "queued", "message": "", **self._jobs.start_training(project_id)}
        if event not in JUDGEMENT_ACTIONS and event != "TASKS_CREATED":
            return {"status": "ignored", "message": f"{event} changes nothing here"}
        if project_id is None:
            message = (
                "the webhook sends no payload, so its project is unknown; the scheduled reconciliation will find it"
            )
            return {"status": "ignored", "message": message}
        if event == "TASKS_CREATED":
            self._jobs.propose(project_id)
        # Tasks imported with annotations send TASKS_CREATED alone.
        self._jobs.judgement_arrived(project_id)
        return {"status": "queued"}

    def _propose_pairs(self, tasks: Sequence[Task], config: LabelConfig, until: float) -> list[Prediction | None]:
        """Fill the answer cards with what the policy samples."""
        prompts = {index: prompt for index, task in enumerate(tasks) if (prompt := config.prompt_of(task.get("data")))}
        questions = [(seed_key(tasks[index], prompt), prompt) for index, prompt in prompts.items()]
        pairs = dict(zip(prompts, self._proposer.propose(questions, deadline_s=_left(until)), strict=True))
        version = next((pair.version for pair in pairs.values() if pair), self.model_version)
        return [
            (_live(config, pair) if (pair := pairs[index]) else None) if index in prompts else _empty(version)
            for index in range(len(tasks))
        ]

    def _prefer(self, tasks: Sequence[Task], config: LabelConfig, until: float) -> list[Prediction | None]:
        """Preselect the answer that the reward model prefers."""
        return self._judge(tasks, config, until, _two_answers, _preference)

    def _order(self, tasks: Sequence[Task], config: LabelConfig, until: float) -> list[Prediction | None]:
        """Put the answers into the order that the reward model prefers."""
        return self._judge(tasks, config, until, _listed_answers, _ranking)

    def _judge(
        self, tasks: Sequence[Task], config: LabelConfig, until: float, choices_of: ChoicesOf, verdict_on: VerdictOn
    ) -> list[Prediction | None]:
        """Score what each task brings; without a reward model (the base has none) nothing is said."""
        choices = [choices_of(config, task) for task in tasks]
        answers = [answer for choice in choices for answer in choice]
        judged = self._proposer.log_odds(answers, deadline_s=_left(until))
        if judged is None:
            loaded = self._proposer.version
            return [_empty(loaded, UNDECIDED if choice else 0.0) if loaded else None for choice in choices]
        version, scores = judged
        rest = iter(scores)
        predictions: list[Prediction | None] = []
        for task, choice in zip(tasks, choices, strict=True):
            own = [next(rest) for _ in choice]
            known = [score for score in own if score is not None]
            if not choice:
                predictions.append(_empty(version))
            elif len(known) < len(own):
                predictions.append(None)
            else:
                predictions.append(verdict_on(config, task, known, version))
        return predictions

    def _project_of(self, data: Mapping[str, Any]) -> int | None:
        if self._project_id is not None:
            return self._project_id
        project = data.get("project")
        found = project.get("id") if isinstance(project, Mapping) else project
        return found if isinstance(found, int) else None

    def _propose_later(self, tasks: Sequence[Task]) -> None:
        project_id = self._project_of(tasks[0])
        if project_id is None:
            return
        try:
            self._jobs.propose(project_id)
        except RankloopError as error:  # the answers that are there count more; reconciliation proposes as well
            logger.warning("%d tasks of project %d stay without proposals for now: %s", len(tasks), project_id, error)


def _sent_at_every_save(data: Mapping[str, Any]) -> bool:
    """Whether the project has Label Studio send START_TRAINING before each annotation that is saved. Then it can't be
    told from the button's, and starting a cycle each time would train on next to nothing new.
    """
    project = data.get("project")
    return isinstance(project, Mapping) and bool(project.get("min_annotations_to_start_training"))


def seed_key(task: Task, prompt: str) -> str:
    """What seeds the answers to a task: its id, so that the same question gets the same pair."""
    return f"task {task['id']}" if isinstance(task.get("id"), int) else f"prompt {prompt}"


def _live(config: LabelConfig, pair: AnswerPair) -> Prediction:
    return {"score": UNDECIDED, **live_prediction(config, pair.answer1, pair.answer2, pair.version)}


def _two_answers(config: LabelConfig, task: Task) -> list[Answer]:
    data = task.get("data")
    prompt, answers = config.prompt_of(data), config.answers_of(data)
    return [(prompt, answer) for answer in answers] if prompt and answers else []


def _listed_answers(config: LabelConfig, task: Task) -> list[Answer]:
    data = task.get("data")
    prompt, items = config.prompt_of(data), config.items_of(data)
    distinct = len({item.id for item in items}) == len(items)
    return [(prompt, item.text) for item in items] if prompt and distinct else []


def _preference(config: LabelConfig, _task: Task, log_odds: Sequence[float], version: str) -> Prediction:
    left, right = log_odds
    if left == right:
        return _empty(version, UNDECIDED)
    return pairwise_prediction(config, "left" if left > right else "right", _sigmoid(abs(left - right)), version)


def _ranking(config: LabelConfig, task: Task, log_odds: Sequence[float], version: str) -> Prediction:
    """Best first, as sure as the closest call between neighbours."""
    ranked = sorted(zip(log_odds, config.items_of(task.get("data")), strict=True), key=lambda pair: -pair[0])
    gaps = [better - worse for (better, _), (worse, _) in pairwise(ranked)]
    return ranker_prediction(config, [item.id for _, item in ranked], _sigmoid(min(gaps, default=0.0)), version)


def _empty(version: str, score: float = 0.0) -> Prediction:
    """A prediction that says nothing, in a form that Label Studio accepts."""
    return {"result": [], "score": score, "model_version": version}


def _sigmoid(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


@lru_cache(maxsize=64)
def _parsed(label_config: str) -> LabelConfig:
    return parse_label_config(label_config)
