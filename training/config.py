"""Every training setting with its default, unit and bounds, validated when a config is created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    """The reward model: a linear probe of the frozen base and, where cross-validation finds it better, own top layers.

    Pairs are dealt to `folds` parts by prompt; a model that never saw a part's prompts scores it. Probes read
    activations at about `probe_depths` depths, spread evenly. `tune` auto trains the layers above the first
    `frozen_share` if there is a pair for every `tune_weights_per_pair` of their weights, and keeps them if they are
    better; `always` keeps them whatever is found, `never` doesn't train them. The other settings are for that training.
    The layers' head starts at zero and has a higher learning rate than the layers, which start from the base and
    overfit early. `label_smoothing` is the assumed share of mistaken votes. `precision` auto computes in bfloat16 where
    the hardware supports it and the model is wide enough to benefit. Activations that need more than
    `activation_memory_mb` go to a memory-mapped file.
    """

    seed: int = 0
    folds: Annotated[int, Field(ge=2, le=64)] = 5
    probe_depths: Positive = 6
    tune: Literal["auto", "always", "never"] = "auto"
    tune_weights_per_pair: Positive = 20_000
    learning_rate: LearningRate = 1e-4
    head_learning_rate: LearningRate = 1e-3
    epochs: Positive = 6
    batch_pairs: Positive = 16
    frozen_share: Share = 0.7
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_share: Share = 0.1
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    patience_epochs: Positive = 3
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    activation_memory_mb: Positive = 2048

    @model_validator(mode="before")
    @classmethod
    def _accept_heads(cls, given: Any) -> Any:
        """Read `heads`, as earlier versions named the ensemble's size; a single one is the default."""
        if not isinstance(given, dict) or "heads" not in given:
            return given
        heads = given["heads"]
        ensemble = {"folds": heads} if heads != 1 else {}
        return {**ensemble, **{name: value for name, value in given.items() if name != "heads"}}


class PPOConfig(_Config):
    """Reinforcement learning of the policy against the reward model.

    `kl_coefficient` and `target_kl_nats` are per sequence, in nats. `trainable_layers` None means the last 8 layers,
    or all but the lowest third of a smaller model. `precision` auto computes in bfloat16 where the hardware supports it
    and the model is wide enough to benefit; the output head stays in float32.
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
    max_kl_nats: Annotated[float, Field(gt=0.0)] = 60.0  # beyond it, training stops and keeps the last good checkpoint
    max_repetition: Share = 0.9  # likewise; share of an answer's 4-grams that repeat earlier ones
    evaluation_prompts: Positive = 1000  # at most this many held-out prompts are answered at the end
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
    """Thresholds that a reward model and a policy must meet for the cycle to continue."""

    min_preferences: Positive = 20
    min_reward_accuracy: Share = 0.55
    min_win_rate: Share = 0.5
    max_kl_nats: Annotated[float, Field(gt=0.0)] = 40.0


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
