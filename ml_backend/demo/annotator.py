"""The demo's simulated annotator: opens tasks in Label Studio, decides with noise, submits like the labeling page."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ml_backend.demo.taste import Taste
from ml_backend.label_studio import LabelStudio, Project
from ml_backend.labels import LabelConfig, parse_label_config
from training.data import Verdict, prompt_in_words
from training.errors import DataError

NOISE = 0.10
"""Share of verdicts that are flipped."""
EXTRA_TIES = 0.05
"""Share of verdicts that become ties despite a difference."""
SKIPS = 0.05
"""Share of tasks the annotator skips."""
SUBMITTERS = 2

_VERDICTS = {"1": Verdict.ANSWER1, "2": Verdict.ANSWER2, "tie": Verdict.TIE}
_TURNED = {Verdict.ANSWER1: Verdict.ANSWER2, Verdict.ANSWER2: Verdict.ANSWER1}


@dataclass(frozen=True, slots=True)
class OpenedTask:
    """A task as the labeling page shows it: the prompt, and a prediction that fills both answer cards."""

    id: int
    prompt: str
    prediction_id: int
    regions: tuple[Mapping[str, Any], ...]
    answer1: str
    answer2: str


@dataclass(frozen=True, slots=True)
class RoundOfJudging:
    """What the annotator did in one round."""

    judgements: int
    ties: int
    skips: int


class SimulatedAnnotator:
    """An annotator with a taste and some noise. The same seed, task and answers give the same decision.

    Args:
        taste: which answer is better, without noise.
        seed: the random seed.
    """

    def __init__(self, taste: Taste, *, seed: int = 0) -> None:
        self._taste = taste
        self._seed = seed

    def in_own_order(self, tasks: Sequence[OpenedTask]) -> list[OpenedTask]:
        """Shuffle the tasks, so that each round has questions of every kind, whatever the order of the prompt file."""
        return random.Random(self._seed).sample(tasks, len(tasks))  # noqa: S311  # no secret

    def decide(self, task: OpenedTask) -> Verdict | None:
        """Decide between both answers; None is a skip."""
        dice = random.Random(f"{self._seed} {task.id} {task.answer1} {task.answer2}")  # noqa: S311  # no secret
        if dice.random() < SKIPS:
            return None
        verdict = _VERDICTS[self._taste(task.prompt, task.answer1, task.answer2)]
        if verdict is not Verdict.TIE and dice.random() < EXTRA_TIES:
            return Verdict.TIE
        if dice.random() < NOISE:
            return _TURNED.get(verdict) or dice.choice(list(_TURNED))
        return verdict


def annotate_round(
    label_studio: LabelStudio,
    project: Project,
    version: str,
    annotator: SimulatedAnnotator,
    judgements: int,
    on_progress: Callable[[int, int], None],
) -> RoundOfJudging:
    """Judge open tasks that show answers of `version` until there are `judgements` verdicts, not counting skips.

    Raises:
        DataError: too few open tasks show answers of that version.
        LabelStudioError: Label Studio rejects an annotation.
    """
    config = parse_label_config(project.label_config)
    opened = list(opened_tasks(label_studio.open_tasks(project.id, predictions=True), config, version))
    plan = _plan(annotator.in_own_order(opened), annotator, judgements)
    if sum(verdict is not None for _, verdict in plan) < judgements:
        raise DataError(
            f"{len(plan)} open tasks show answers of {version}", expected=f"enough for {judgements} judgements"
        )

    def submit(item: tuple[OpenedTask, Verdict | None]) -> bool:
        task, verdict = item
        if verdict is None:
            label_studio.skip(task.id, lead_time=3.0, parent_prediction=task.prediction_id)
        else:
            result = annotation_result(task, verdict, config)
            label_studio.annotate(task.id, result, lead_time=9.0, parent_prediction=task.prediction_id)
        return verdict is not None

    done = 0
    pool = ThreadPoolExecutor(SUBMITTERS, thread_name_prefix="annotator")
    try:
        for judged in pool.map(submit, plan):
            done += judged
            on_progress(done, judgements)
    finally:
        pool.shutdown(cancel_futures=True)
    verdicts = [verdict for _, verdict in plan]
    return RoundOfJudging(judgements, verdicts.count(Verdict.TIE), verdicts.count(None))


def opened_tasks(tasks: Iterable[Mapping[str, Any]], config: LabelConfig, version: str) -> Iterator[OpenedTask]:
    """The tasks that have a prediction of `version` with two answers; the page shows the newest one."""
    names = [field.name for field in config.answers]
    for task in tasks:
        prompt = config.prompt_of(task.get("data"))
        for prediction in reversed(task.get("predictions") or []):
            regions = [region for region in prediction["result"] or [] if region.get("from_name") in names]
            texts = {region["from_name"]: "\n".join(region["value"]["text"]) for region in regions}
            if prompt and prediction["model_version"] == version and len(texts) == len(names):
                first, second = (texts[name] for name in names)
                yield OpenedTask(task["id"], prompt_in_words(prompt), prediction["id"], tuple(regions), first, second)
                break


def annotation_result(task: OpenedTask, verdict: Verdict, config: LabelConfig) -> list[dict[str, Any]]:
    """The result that the labeling page submits: both predicted answers as shown, and the choice."""
    stored = next(alias for alias, meaning in config.verdicts.items() if meaning is verdict)
    choice = {
        "id": f"verdict{task.id}",
        "type": "choices",
        "from_name": config.control,
        "to_name": config.target,
        "origin": "manual",
        "value": {"choices": [stored]},
    }
    return [*({**region, "origin": "prediction"} for region in task.regions), choice]


def _plan(
    tasks: Iterable[OpenedTask], annotator: SimulatedAnnotator, judgements: int
) -> Sequence[tuple[OpenedTask, Verdict | None]]:
    """Decide on tasks in order, up to the given number of verdicts."""
    plan: list[tuple[OpenedTask, Verdict | None]] = []
    for task in tasks:
        if judgements == 0:
            break
        verdict = annotator.decide(task)
        plan.append((task, verdict))
        judgements -= verdict is not None
    return plan
