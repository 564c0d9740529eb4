"""What a stored prediction says beside its answers: how close the call is, and the round it belongs to."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_backend.labels import LabelConfig
from ml_backend.rounds import round_of
from ml_backend.serving.match import Answerer
from ml_backend.serving.version import Answer
from training.errors import RankloopError

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]


def with_rounds(
    predictions: Sequence[Prediction | None], tasks: Sequence[Mapping[str, Any]]
) -> list[Prediction | None]:
    """Note the round of each task in the regions that say which version wrote an answer.

    Label Studio returns what stands there with the judgement. A pair that is shown again keeps the round it had.
    """
    return [
        prediction and {**prediction, "result": [_in_round(region, task) for region in prediction["result"]]}
        for prediction, task in zip(predictions, tasks, strict=True)
    ]


def with_scores(
    predictions: Sequence[Prediction | None],
    tasks: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    version: Answerer,
) -> list[Prediction | None]:
    """Score proposed pairs by the probability that the version's reward model gives to the answer it prefers, from 0.5
    (it can't tell, so a judgement teaches most) to 1.

    Without a reward model, or where it fails, they keep their score of 0.5.
    """
    found = list(predictions)
    if config.kind != "live" or not version.judges:
        return found
    asked: dict[int, list[Answer]] = {}
    for place, (prediction, task) in enumerate(zip(predictions, tasks, strict=True)):
        prompt = config.prompt_of(task.get("data"))
        if prediction and prompt is not None and len(prediction["result"]) == 2:
            asked[place] = [(prompt, region["value"]["text"][0]) for region in prediction["result"]]
    try:
        scores = version.log_odds([answer for pair in asked.values() for answer in pair]) if asked else []
    except RankloopError as error:
        logger.warning("the pairs of %s aren't scored: %s", version.name, error)
        return found
    for place, left, right in zip(asked, scores[::2], scores[1::2], strict=True):
        prediction = found[place]
        if prediction and math.isfinite(left - right):
            found[place] = {**prediction, "score": 1.0 / (1.0 + math.exp(-abs(left - right)))}
    return found


def _in_round(region: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    meta = region.get("meta")
    if not isinstance(meta, Mapping) or "version" not in meta:
        return dict(region)
    return {**region, "meta": {"round": round_of(task), **meta}}
