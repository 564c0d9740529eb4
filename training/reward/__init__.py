"""Reward-model training: preference pairs in, a model that scores answers out."""

from training.reward.features import pair_features
from training.reward.report import RewardPoint, RewardReport
from training.reward.run import RewardRun, train_epoch
from training.reward.train import train_reward

__all__ = ["RewardPoint", "RewardReport", "RewardRun", "pair_features", "train_epoch", "train_reward"]
