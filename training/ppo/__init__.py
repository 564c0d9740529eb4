"""Reinforcement learning of the policy against the reward model, kept near a reference by a KL penalty; also DPO."""

from training.ppo.report import PPOPoint, PPOReport
from training.ppo.train import train_ppo
from training.ppo.trainer import PPOTrainer, Start

__all__ = ["PPOPoint", "PPOReport", "PPOTrainer", "Start", "train_ppo"]
