"""Reward-model training: preference pairs in, a model that scores answers out."""

from training.reward.choose import FittedProbes, fit_ensemble
from training.reward.features import PairFeatures, pair_features
from training.reward.folds import PROMPTS_TO_SPARE_A_PART, Folds, folds_of
from training.reward.probe import fit_probes
from training.reward.report import RewardPoint, RewardReport
from training.reward.run import RewardRun, train_epoch
from training.reward.train import candidate_sites, probe_depths, train_reward, why_not_tune

__all__ = [
    "PROMPTS_TO_SPARE_A_PART",
    "FittedProbes",
    "Folds",
    "PairFeatures",
    "RewardPoint",
    "RewardReport",
    "RewardRun",
    "candidate_sites",
    "fit_ensemble",
    "fit_probes",
    "folds_of",
    "pair_features",
    "probe_depths",
    "train_epoch",
    "train_reward",
    "why_not_tune",
]
