"""Label Studio's JSON and XML as data: label configs, exports, annotations, predictions. Pure: no network, no files."""

from ml_backend.labels.annotations import UNKNOWN_ANNOTATOR, verdict_of
from ml_backend.labels.authors import ShownAnswer, fresh_note, judged_pair, pair_prediction, shown_pair
from ml_backend.labels.config import parse_label_config, with_prompt_fields
from ml_backend.labels.export import annotations_in, filter_value, parse_export, read_moment
from ml_backend.labels.fields import Field, LabelConfig
from ml_backend.labels.infer import infer_label_config
from ml_backend.labels.judgements import ConversionSummary, GroundTruth, judgements_from_export
from ml_backend.labels.predictions import fits, live_prediction, pair_digest, pairwise_prediction, ranker_prediction

__all__ = [
    "UNKNOWN_ANNOTATOR",
    "ConversionSummary",
    "Field",
    "GroundTruth",
    "LabelConfig",
    "ShownAnswer",
    "annotations_in",
    "filter_value",
    "fits",
    "fresh_note",
    "infer_label_config",
    "judged_pair",
    "judgements_from_export",
    "live_prediction",
    "pair_digest",
    "pair_prediction",
    "pairwise_prediction",
    "parse_export",
    "parse_label_config",
    "ranker_prediction",
    "read_moment",
    "shown_pair",
    "verdict_of",
    "with_prompt_fields",
]
