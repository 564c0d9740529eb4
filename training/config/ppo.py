"""The settings of reinforcement learning, and of what may take its place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.config.values import Config, LearningRate, LoRAConfig, Positive, SamplingConfig, Share


class PPOConfig(Config):
    """Reinforcement learning of the policy against the reward model, or one of its substitutes.

    `algorithm` `best-of-n` imitates the best of `answers_per_prompt` answers of the policy's own; `dpo` learns from the
    preferences themselves. `answers_per_prompt` None means 4 for `rloo`, 8 for `best-of-n`, else 1. `critic` is what
    `rloo` measures each token against: what the reward model's score of the answer so far promises, with `lam` as in
    `ppo`; or with `none`, the other answers to the same prompt alone. `kl_coefficient` is per sequence, in spreads of
    the reward per nat; `adaptive_kl` raises it while the KL is above its target, but never lowers it below this. A
    limit on the KL is in nats per sequence, or where that is None, in nats per token times the mean length of the
    base's answers. `trainable_layers` None means the last 8 layers, or all but the lowest third of a smaller model.
    `precision` auto computes in bfloat16 where the hardware supports it and the model is wide enough to benefit; the
    output head stays in float32.

    With `trainable` lora, adapters beside these layers are trained in their place, and merged when the policy is saved.
    `micro_batch_size` answers pass through the models at a time (None: a whole minibatch); gradients stay those of the
    whole minibatch. `recompute_activations` saves memory by computing the trained layers again in the backward pass.
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
    trainable: Literal["layers", "lora"] = "layers"
    lora: LoRAConfig = LoRAConfig()
    micro_batch_size: Positive | None = None
    recompute_activations: bool = False
    kl_coefficient: Annotated[float, Field(ge=0.0)] = 0.05
    adaptive_kl: bool = True
    target_kl_nats: Annotated[float, Field(gt=0.0)] | None = None
    target_kl_nats_per_token: Annotated[float, Field(gt=0.0)] = 0.2
    kl_horizon_sequences: Positive = 320
    max_kl_nats: Annotated[float, Field(gt=0.0)] | None = None  # beyond it, the last good policy is kept
    max_kl_nats_per_token: Annotated[float, Field(gt=0.0)] = 1.0  # likewise
    max_repetition: Share = 0.9  # likewise; share of an answer's 4-grams that repeat earlier ones
    max_similarity_gain: Share = 0.3  # likewise; how much more alike answers to different prompts are than the base's
    min_entropy_share: Share = 0.05  # likewise; the policy's entropy per token, as a share of the base's
    evaluation_prompts: Positive = 200  # at most this many held-out prompts are answered at the end
    evaluation_answers: Positive = 4  # by policy, champion and base, to each of them
    best_of: Positive | None = None  # most answers of the base to choose from; None: 64 for a small model, else 16
    origin_answers: Annotated[int, Field(ge=2)] = 2  # of the base, to each prompt, from which rewards are measured
    critic: Literal["reward-model", "none"] = "reward-model"
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
    sampling: SamplingConfig = SamplingConfig()  # the cycle's; a file says it at its top
    checkpoint_every_iterations: Positive = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def answers(self) -> int:
        """How many answers to each prompt an iteration samples."""
        return self.answers_per_prompt or {"rloo": 4, "best-of-n": 8}.get(self.algorithm, 1)

    @property
    def values_every_token(self) -> bool:
        """Whether each state of an answer has a value: the value function's in `ppo`, the critic's in `rloo`."""
        return self.algorithm == "ppo" or (self.algorithm == "rloo" and self.critic != "none")

    def target_kl(self, base_tokens: float) -> float:
        """The KL to aim for, in nats per sequence, where the base's answers are `base_tokens` long on average."""
        return self.target_kl_nats or self.target_kl_nats_per_token * base_tokens

    def largest_kl(self, base_tokens: float) -> float:
        """The KL beyond which training stops, likewise."""
        return self.max_kl_nats or self.max_kl_nats_per_token * base_tokens
