"""How good a model is, how certain that is, and the gates it must pass."""

from training.evaluation.calibration import correlation, expected_calibration_error, fit_temperature
from training.evaluation.gates import Gate, policy_gate, reward_gate
from training.evaluation.intervals import accuracy_with_interval
from training.evaluation.policy import OnAnswers, PolicyEvaluation, evaluate_policy

__all__ = [
    "Gate",
    "OnAnswers",
    "PolicyEvaluation",
    "accuracy_with_interval",
    "correlation",
    "evaluate_policy",
    "expected_calibration_error",
    "fit_temperature",
    "policy_gate",
    "reward_gate",
]
