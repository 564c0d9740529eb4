"""Every knob of training, with its default, unit and bounds. Values are checked when a config is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import ConfigError

TRAINING_CONFIG_FILE = "rankloop_training.json"
"""A model folder may carry its own training settings in a file of this name; they replace the defaults below."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextConfig(_Config):
    """How a prompt and an answer become one sequence: prompt, separator, answer, end of text."""

    separator: str = "\n"
    max_prompt_tokens: Positive = 512
    max_answer_tokens: Positive = 512


class SamplingConfig(_Config):
    """How answers are sampled. `top_k` 0 and `top_p` 1 leave the distribution whole."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 50
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    max_new_tokens: Positive = 64


class SFTConfig(_Config):
    """Supervised (maximum likelihood) training on answers people wrote.

    `trainable_layers` None means the layers that PPO trains, so that the outcome can go on to PPO; `all` means every
    layer and the embeddings. `learn_prompts` also trains on the prompts' tokens, as a model made from scratch needs.
    `precision` auto computes in bfloat16 where the hardware does so natively, over float32 weights.
    """

    seed: int = 0
    learning_rate: LearningRate = 5e-5
    epochs: Positive = 3
    batch_size: Positive = 16
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_share: Share = 0.05
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    trainable_layers: Positive | Literal["all"] | None = None
    learn_prompts: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every_steps: Positive = 200


class RewardConfig(_Config):
    """The reward model: base layers, the first `frozen_share` of them frozen, a score head at the last real token.

    The head starts from nothing and learns faster than the layers, which start from the base's and soon overfit.
    `label_smoothing` is how often a vote is taken to be a slip. `precision` auto computes in bfloat16 where the
    hardware has it and the model is wide enough for it to pay. Activations of the frozen layers that take more than
    `activation_memory_mb` lie in a memory-mapped file instead of in memory. Several `heads` are trained on resampled
    pairs; their disagreement is an uncertainty that PPO can take off the reward.
    """

    seed: int = 0
    learning_rate: LearningRate = 1e-4
    head_learning_rate: LearningRate = 1e-3
    epochs: Positive = 6
    batch_pairs: Positive = 16
    frozen_share: Share = 0.7
    heads: Annotated[int, Field(ge=1, le=64)] = 1
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_share: Share = 0.1
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    patience_epochs: Positive = 3
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    activation_memory_mb: Positive = 2048


class PPOConfig(_Config):
    """Reinforcement learning of the policy against the reward model.

    `kl_coefficient` and `target_kl_nats` are per sequence, in nats. `trainable_layers` None means the last 8 layers,
    or all but the lowest third of a smaller model. `precision` auto computes in bfloat16 where the hardware has it and
    the model is wide enough for it to pay; the output head stays in float32.
    """

    algorithm: Literal["ppo", "rloo", "reinforce"] = "ppo"
    seed: int = 0
    iterations: Positive = 100
    prompts_per_iteration: Positive = 32
    answers_per_prompt: Positive = 1
    minibatch_size: Positive = 16
    epochs: Positive = 4
    learning_rate: LearningRate = 1.5e-5
    warmup_share: Share = 0.05
    trainable_layers: Positive | None = None
    kl_coefficient: Annotated[float, Field(ge=0.0)] = 0.05
    adaptive_kl: bool = True
    target_kl_nats: Annotated[float, Field(gt=0.0)] = 6.0
    kl_horizon_sequences: Positive = 10_000
    max_kl_nats: Annotated[float, Field(gt=0.0)] = 60.0  # training stops, the last good checkpoint kept
    max_repetition: Share = 0.9  # the same; the share of an answer's stretches of 4 tokens that it had before
    evaluation_prompts: Positive = 1000  # so many held-out prompts at most are answered at the end
    gamma: Share = 1.0
    lam: Share = 0.95
    clip_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_value: Annotated[float, Field(gt=0.0)] = 0.2
    value_coefficient: Annotated[float, Field(ge=0.0)] = 0.1
    whiten_advantages: bool = True
    missing_eos_penalty: Annotated[float, Field(ge=0.0)] = 1.0
    uncertainty_penalty: Annotated[float, Field(ge=0.0)] = 0.0  # standard deviations of the reward model's heads
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    sampling: SamplingConfig = SamplingConfig(top_k=0, top_p=1.0)
    checkpoint_every_iterations: Positive = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class GateConfig(_Config):
    """What a reward model and a policy must show before they go on."""

    min_preferences: Positive = 20
    min_reward_accuracy: Share = 0.55
    min_win_rate: Share = 0.5
    max_kl_nats: Annotated[float, Field(gt=0.0)] = 40.0


class CycleConfig(_Config):
    """One whole training cycle."""

    text: TextConfig = TextConfig()
    sft: SFTConfig = SFTConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    gates: GateConfig = GateConfig()
    min_demonstrations: Positive = 32  # fewer rewritten answers than this don't start supervised training

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a JSON file of settings; what it leaves out keeps its default.

        Raises:
            ConfigError: the file is missing, no JSON, or names an unknown key or a value out of bounds.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError("training settings can't be read", got=str(path), remedy=str(error)) from error
        except ValidationError as error:
            raise ConfigError(f"training settings in {path} can't be used", expected=_first_fault(error)) from error

    @classmethod
    def for_model(cls, model: str) -> Self:
        """The settings a model folder carries in `rankloop_training.json`, or the defaults (made for GPT-2 124M)."""
        path = Path(model) / TRAINING_CONFIG_FILE
        return cls.from_file(path) if path.is_file() else cls()

    def save(self, path: Path) -> None:
        """Write every setting as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    return f"{key}: {fault['msg']} (got {fault['input']!r})"
