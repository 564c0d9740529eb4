"""Serving the champion: loading, swapping and batching it, and formatting its answers for Label Studio."""

from ml_backend.serving.marks import with_scores
from ml_backend.serving.match import Answerer, Match
from ml_backend.serving.predictions import PENDING_SUFFIX, AnswerPairModel, Prediction, predictions_of
from ml_backend.serving.proposer import Proposer
from ml_backend.serving.selection import Chosen, choose_pair
from ml_backend.serving.version import LoadedVersion, load_version

__all__ = [
    "PENDING_SUFFIX",
    "AnswerPairModel",
    "Answerer",
    "Chosen",
    "LoadedVersion",
    "Match",
    "Prediction",
    "Proposer",
    "choose_pair",
    "load_version",
    "predictions_of",
    "with_scores",
]
