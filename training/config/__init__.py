"""Every training setting with its default, unit and bounds, validated when a config is created."""

from training.config.cycle import (
    CHAT_SAMPLING,
    TRAINING_CONFIG_FILE,
    CycleConfig,
    GateConfig,
    RewardConfig,
    SFTConfig,
    TextConfig,
    has_chat_template,
    is_gguf,
)
from training.config.ppo import PPOConfig
from training.config.values import LoRAConfig, SamplingConfig

__all__ = [
    "CHAT_SAMPLING",
    "TRAINING_CONFIG_FILE",
    "CycleConfig",
    "GateConfig",
    "LoRAConfig",
    "PPOConfig",
    "RewardConfig",
    "SFTConfig",
    "SamplingConfig",
    "TextConfig",
    "has_chat_template",
    "is_gguf",
]
