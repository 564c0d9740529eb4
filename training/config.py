"""Every training setting with its default, unit and bounds, validated when a config is created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import ConfigError

TRAINING_CONFIG_FILE = "rankloop_training.json"
"""A model folder may contain a file of this name; its settings replace the defaults below."""

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
    """How answers are sampled. `top_k` 0 and `top_p` 1 sample from the full distribution."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 50
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    max_new_tokens: Positive = 64


class SFTConfig(_Config):
    """Supervised (maximum likelihood) training on answers people wrote.

    `trainable_layers` None trains the same layers as PPO, so that PPO can start from the result; `all` trains every
    layer and the embeddings. `learn_prompts` also trains on prompt tokens, which a model trained from scratch needs.
    `precision` auto computes in bfloat16 where the hardware supports it natively, with float32 weights.
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

    The head starts at zero and has a higher learning rate than the layers, which start from the base and overfit early.
    `label_smoothing` is the assumed share of mistaken votes. `precision` auto computes in bfloat16 where the hardware
    supports it and the model is wide enough to benefit. Activations of the frozen layers that need more than
    `activation_memory_mb` go to a memory-mapped file. Several `heads` are trained on resampled pairs; their
    disagreement is an uncertainty that PPO can subtract from the reward.
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
    """Reinforcement learning of the policy against the reward model, or one of its substitutes.

    `algorithm` `best-of-n` imitates the best of `answers_per_prompt` answers of the policy's own; `dpo` learns from the
    preferences themselves. `answers_per_prompt` None means 4 for `rloo`, 8 for `best-of-n`, else 1. `kl_coefficient`
    is per sequence, in spreads of the reward per nat. A limit on the KL is in nats per sequence, or where that is None,
    in nats per token times the mean length of the base's answers. `trainable_layers` None means the last 8 layers, or
    all but the lowest third of a smaller model. `precision` auto computes in bfloat16 where the hardware supports it
    and the model is wide enough to benefit; the output head stays in float32.
    """

    algorithm: Literal["ppo", "rloo", "reinforce", "best-of-n", "dpo"] = "ppo"
    seed: int = 0
    iterations: Positive = 100
    prompts_per_iteration: Positive = 32
    answers_per_prompt: Positive | None = None
    minibatch_size: Positive = 16
    epochs: Positive = 4
    learning_rate: LearningRate = 1.5e-5
    value_learning_rate: LearningRate = 1e-3
    warmup_share: Share = 0.05
    trainable_layers: Positive | None = None
    kl_coefficient: Annotated[float, Field(ge=0.0)] = 0.05
    adaptive_kl: bool = True
    target_kl_nats: Annotated[float, Field(gt=0.0)] | None = None
    target_kl_nats_per_token: Annotated[float, Field(gt=0.0)] = 0.15
    kl_horizon_sequences: Positive = 320
    max_kl_nats: Annotated[float, Field(gt=0.0)] | None = None  # beyond it, the last good policy is kept
    max_kl_nats_per_token: Annotated[float, Field(gt=0.0)] = 1.0  # likewise
    max_repetition: Share = 0.9  # likewise; share of an answer's 4-grams that repeat earlier ones
    max_similarity_gain: Share = 0.3  # likewise; how much more alike answers to different prompts are than the base's
    min_entropy_share: Share = 0.05  # likewise; the policy's entropy per token, as a share of the base's
    evaluation_prompts: Positive = 200  # at most this many held-out prompts are answered at the end
    evaluation_answers: Positive = 4  # by policy, champion and base, to each of them
    best_of: Positive | None = None  # most answers of the base to choose from; None: 64 for a small model, else 16
    origin_answers: Annotated[int, Field(ge=2)] = 4  # of the base, to each prompt, from which rewards are measured
    gamma: Share = 1.0
    lam: Share = 0.95
    clip_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_value: Annotated[float, Field(gt=0.0)] = 0.2
    value_coefficient: Annotated[float, Field(ge=0.0)] = 0.1
    whiten_advantages: bool = True
    missing_eos_penalty: Annotated[float, Field(ge=0.0)] = 1.0
    blank_penalty: Annotated[float, Field(ge=0.0)] = 2.0
    uncertainty_penalty: Annotated[float, Field(ge=0.0)] = 0.0  # standard deviations of the reward model's heads
    dpo_beta: Annotated[float, Field(gt=0.0)] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    sampling: SamplingConfig = SamplingConfig(top_k=0, top_p=1.0)
    checkpoint_every_iterations: Positive = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def answers(self) -> int:
        """How many answers to each prompt an iteration samples."""
        return self.answers_per_prompt or {"rloo": 4, "best-of-n": 8}.get(self.algorithm, 1)

    def target_kl(self, base_tokens: float) -> float:
        """The KL to aim for, in nats per sequence, where the base's answers are `base_tokens` long on average."""
        return self.target_kl_nats or self.target_kl_nats_per_token * base_tokens

    def largest_kl(self, base_tokens: float) -> float:
        """The KL beyond which training stops, likewise."""
        return self.max_kl_nats or self.max_kl_nats_per_token * base_tokens


class GateConfig(_Config):
    """Thresholds that a reward model and a policy must meet for the cycle to continue.

    `min_win_rate` is against the champion, for the lower end of the 95% interval; 0 lets any policy pass. The KL limit
    is as in `PPOConfig`.
    """

    min_preferences: Positive = 20
    min_reward_accuracy: Share = 0.55
    min_win_rate: Share = 0.5
    min_held_out_prompts: Positive = 8
    max_kl_nats: Annotated[float, Field(gt=0.0)] | None = None
    max_kl_nats_per_token: Annotated[float, Field(gt=0.0)] = 1.0

    def largest_kl(self, base_tokens: float) -> float:
        """The KL beyond which a policy is refused, in nats per sequence."""
        return self.max_kl_nats or self.max_kl_nats_per_token * base_tokens


class CycleConfig(_Config):
    """Settings of a whole training cycle."""

    text: TextConfig = TextConfig()
    sft: SFTConfig = SFTConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    gates: GateConfig = GateConfig()
    min_demonstrations: Positive = 32  # with fewer rewritten answers, supervised training is skipped

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read settings from a JSON file; settings it omits keep their defaults.

        Raises:
            ConfigError: the file is missing, isn't JSON, or has an unknown key or an out-of-bounds value.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError("training settings can't be read", got=str(path), remedy=str(error)) from error
        except ValidationError as error:
            raise ConfigError(f"training settings in {path} can't be used", expected=_first_fault(error)) from error

    @classmethod
    def for_model(cls, model: str) -> Self:
        """The settings in a model folder's `rankloop_training.json`, or the defaults, which suit GPT-2 124M."""
        path = Path(model) / TRAINING_CONFIG_FILE
        return cls.from_file(path) if path.is_file() else cls()

    def save(self, path: Path) -> None:
        """Write every setting as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    return f"{key}: {fault['msg']} (got {fault['input']!r})"
