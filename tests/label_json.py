"""Builders for Label Studio's export JSON, and its conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_backend.labels.config import parse_label_config
from ml_backend.labels.fields import LabelConfig
from ml_backend.labels.judgements import ConversionSummary, judgements_from_export
from ml_backend.labels.predictions import live_prediction
from training.data.types import Judgement

ROOT = Path(__file__).parent.parent


Json = dict[str, Any]


def config_in(name: str) -> LabelConfig:
    """One of the project's own labeling configurations."""
    return parse_label_config((ROOT / name).read_text(encoding="utf-8"))


LIVE = config_in("label_config.xml")


PAIRWISE = config_in("label_configs/pairwise.xml")


RANKER = config_in("label_configs/ranker.xml")


PREDICTION = {"id": 50, **live_prediction(LIVE, "first", "second", "rankloop-v7")}


def area(name: str, text: object, **more: object) -> Json:
    """The result of a TextArea."""
    return {"type": "textarea", "from_name": name, "to_name": "prompt", "value": {"text": text}, **more}


def verdict(*choices: object) -> Json:
    """The result of the verdict."""
    return {"type": "choices", "from_name": "verdict", "to_name": "prompt", "value": {"choices": list(choices)}}


def annotation(result: object, number: int = 1, **more: object) -> Json:
    """An annotation as in a JSON export."""
    when = f"2026-01-01T00:00:{number:02}.5Z"
    return {"id": number, "completed_by": 4, "result": result, "was_cancelled": False, "updated_at": when, **more}


def live(choice: str, number: int = 1, **more: object) -> Json:
    """A person's verdict on PREDICTION, as Label Studio's page submits it."""
    regions = [{**region, "origin": "prediction"} for region in PREDICTION["result"]]
    return annotation([*regions, verdict(choice)], number, **more)


def plain(*texts: str, origin: str | None = None) -> list[Json]:
    """Both answers without ids and meta, as a script might post them."""
    more = {} if origin is None else {"origin": origin}
    return [area(f"answer{n}", [text], **more) for n, text in enumerate(texts, start=1)]


def pair(selected: object, number: int = 1, **more: object) -> Json:
    """The result of a Pairwise."""
    region = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison", "value": {"selected": selected}}
    return annotation([region], number, **more)


def ranking(order: object) -> Json:
    """The result of a Ranker."""
    region = {"type": "ranker", "from_name": "rank", "to_name": "answers", "value": {"ranker": {"rank": order}}}
    return annotation([region])


def task(*annotations: object, predictions: object = (), **data: object) -> Json:
    """A task of an export."""
    return {
        "id": 9,
        "data": {"prompt": "How?", **data},
        "annotations": list(annotations),
        "predictions": list(predictions) if isinstance(predictions, tuple) else predictions,
    }


def convert(*tasks: object, config: LabelConfig = LIVE) -> tuple[list[Judgement], ConversionSummary]:
    """The conversion, for project 3."""
    return judgements_from_export(tasks, config, 3)


def dropped(*tasks: object, config: LabelConfig = LIVE) -> dict[str, int]:
    """What was dropped and why, after checking that the counts add up."""
    judgements, summary = convert(*tasks, config=config)
    assert judgements == []
    assert summary.annotations == summary.skipped + sum(summary.dropped.values())
    return dict(summary.dropped)
