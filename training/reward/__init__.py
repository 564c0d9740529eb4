"""Reward-model training: preference pairs in, a model that scores answers out."""

from training.reward.features import features_by_split
from training.reward.report import RewardPoint, RewardReport
from training.reward.run import RewardRun, train_epoch
from training.reward.tune import train_reward

__all__ = ["RewardPoint", "RewardReport", "RewardRun", "features_by_split", "train_epoch", "train_reward"]
