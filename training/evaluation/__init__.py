"""How good a model is, how certain that is, and the gates it must pass."""

from training.evaluation.calibration import correlation, expected_calibration_error, fit_temperature
from training.evaluation.gates import Gate, policy_gate, reward_gate
from training.evaluation.intervals import Accuracy, accuracy_with_interval, clustered_accuracy
from training.evaluation.policy import OnAnswers, PolicyEvaluation, evaluate_policy

__all__ = [
    "Accuracy",
    "Gate",
    "OnAnswers",
    "PolicyEvaluation",
    "accuracy_with_interval",
    "clustered_accuracy",
    "correlation",
    "evaluate_policy",
    "expected_calibration_error",
    "fit_temperature",
    "policy_gate",
    "reward_gate",
]
