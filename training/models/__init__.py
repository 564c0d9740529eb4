"""Tokenization, and models in parts: backbone, policy with value head, reward model."""

from training.models.architectures import backbone_of
from training.models.backbone import position_ids, tensor_digest
from training.models.copies import frozen_copies, share_equal_weights
from training.models.load import load_causal_lm
from training.models.policy import PolicyWithValue, trainable_layer_count
from training.models.probe import CONFIG_FILE, WEIGHTS_FILE, Pool, Probe, Site, pool_answer
from training.models.reward import RewardModel
from training.models.sequences import pad_answers, sequences_of
from training.models.text import TextCodec, pad_left, pad_right

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "PolicyWithValue",
    "Pool",
    "Probe",
    "RewardModel",
    "Site",
    "TextCodec",
    "backbone_of",
    "frozen_copies",
    "load_causal_lm",
    "pad_answers",
    "pad_left",
    "pad_right",
    "pool_answer",
    "position_ids",
    "sequences_of",
    "share_equal_weights",
    "tensor_digest",
    "trainable_layer_count",
]
