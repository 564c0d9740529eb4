"""How good a model is, how certain that is, and the gates it must pass."""

from training.evaluation.best_of_n import BestOfN, best_of_n_curve, best_of_n_kl, best_of_n_weights, win_shares
from training.evaluation.calibration import correlation, expected_calibration_error, fit_temperature
from training.evaluation.frontier import draw_frontier
from training.evaluation.gates import Gate, policy_gate, reward_gate
from training.evaluation.intervals import Accuracy, accuracy_with_interval, clustered_accuracy, mean_with_interval
from training.evaluation.policy import Example, OnAnswers, PolicyEvaluation, evaluate_policy
from training.evaluation.variety import distinct_share, repetition, similarity

__all__ = [
    "Accuracy",
    "BestOfN",
    "Example",
    "Gate",
    "OnAnswers",
    "PolicyEvaluation",
    "accuracy_with_interval",
    "best_of_n_curve",
    "best_of_n_kl",
    "best_of_n_weights",
    "clustered_accuracy",
    "correlation",
    "distinct_share",
    "draw_frontier",
    "evaluate_policy",
    "expected_calibration_error",
    "fit_temperature",
    "mean_with_interval",
    "policy_gate",
    "repetition",
    "reward_gate",
    "similarity",
    "win_shares",
]
