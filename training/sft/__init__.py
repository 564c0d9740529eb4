"""Supervised fine-tuning: maximum likelihood of answers that people wrote."""

from training.sft.report import SFTPoint
from training.sft.train import train_sft

__all__ = ["SFTPoint", "train_sft"]
