"""Every training setting with its default, unit and bounds, validated when a config is created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from training.config.ppo import PPOConfig
from training.config.values import Config, LearningRate, LoRAConfig, Positive, SamplingConfig, Share
from training.errors import ConfigError

TRAINING_CONFIG_FILE = "rankloop_training.json"
"""A model folder may contain a file of this name; its settings replace the defaults below."""

CHAT_SAMPLING = {"temperature": 0.7, "max_new_tokens": 256}
"""A chat model's defaults: it was tuned to be sampled cooler than a plain language model, and ends by itself."""


class TextConfig(Config):
    """How a prompt and an answer become one sequence.

    `chat_template` auto prompts through the tokenizer's chat template, told `system_prompt` first, if it has one.
    Others (and `off`) get prompt, separator, answer, end of text. Prompts may be as long as the model reads, less an
    answer.
    """

    chat_template: Literal["auto", "off"] = "auto"
    system_prompt: str | None = None
    separator: str = "\n"
    max_prompt_tokens: Positive = 512
    max_answer_tokens: Positive = 512

    def leaving_room(self, positions: int | None, new_tokens: int) -> Self:
        """With prompts short enough for an answer and its end to fit into a model's `positions`; None is any length."""
        if positions is None:
            return self
        room = max(1, positions - new_tokens - 1)
        return self.model_copy(update={"max_prompt_tokens": min(self.max_prompt_tokens, room)})


class SFTConfig(Config):
    """Supervised (maximum likelihood) training on answers people wrote.

    `trainable_layers` None trains the same layers as PPO, so that PPO can start from the result; `all` trains every
    layer and the embeddings. `learn_prompts` also trains on prompt tokens, which a model trained from scratch needs.
    `precision` auto computes in bfloat16 where the hardware supports it natively, with float32 weights.

    With `trainable` lora, adapters beside these layers are trained in their place, and merged when the model is saved.
    `micro_batch_size` examples pass through the model at a time (None: a whole batch); gradients stay those of the
    whole batch. `recompute_activations` saves memory by computing the trained layers again in the backward pass.
    """

    seed: int = 0
    learning_rate: LearningRate = 5e-5
    epochs: Positive = 3
    batch_size: Positive = 16
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_share: Share = 0.05
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    trainable_layers: Positive | Literal["all"] | None = None
    trainable: Literal["layers", "lora"] = "layers"
    lora: LoRAConfig = LoRAConfig()
    micro_batch_size: Positive | None = None
    recompute_activations: bool = False
    learn_prompts: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every_steps: Positive = 200


class RewardConfig(Config):
    """The reward model: a linear probe of the frozen base and, where cross-validation finds it better, own top layers.

    Pairs are dealt to `folds` parts by prompt; a model that never saw a part's prompts scores it. Probes read
    activations at about `probe_depths` depths, spread evenly. `tune` auto trains the layers above the first
    `frozen_share` if there is a pair for every `tune_weights_per_pair` of their weights, and keeps them if they are
    better; `always` keeps them whatever is found, `never` doesn't train them. The other settings are for that training.
    The layers' head starts at zero and has a higher learning rate than the layers, which start from the base and
    overfit early. `label_smoothing`, the assumed share of mistaken votes, pulls
    back what the probe is sure of, rightly or not. `precision` auto computes in bfloat16 where
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
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
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


class GateConfig(Config):
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


class CycleConfig(Config):
    """Settings of a whole training cycle. `ppo.sampling` is always `sampling`, which older files have there."""

    text: TextConfig = TextConfig()
    sampling: SamplingConfig = SamplingConfig()
    sft: SFTConfig = SFTConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    gates: GateConfig = GateConfig()
    min_demonstrations: Positive = 32  # with fewer rewritten answers, supervised training is skipped

    @model_validator(mode="before")
    @classmethod
    def _one_sampling(cls, data: Any) -> Any:
        """Give PPO the cycle's sampling, wherever the file says it."""
        if not isinstance(data, dict):
            return data
        ppo = _as_given(data.get("ppo"))
        top, inner = _as_given(data.get("sampling")), _as_given(ppo.get("sampling") if isinstance(ppo, dict) else None)
        if not all(isinstance(part, dict) for part in (ppo, top, inner)) or not (top or inner):
            return data  # what isn't an object is reported by its own field
        for name in top.keys() & inner.keys():
            if top[name] != inner[name]:
                raise ValueError(f"sampling.{name} is {top[name]!r}, but ppo.sampling.{name} is {inner[name]!r}")
        sampling = {**inner, **top}
        return {**data, "sampling": sampling, "ppo": {**ppo, "sampling": sampling}}

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read settings from a JSON file; settings it omits keep their defaults.

        Raises:
            ConfigError: the file is missing, isn't JSON, has an unknown key or an out-of-bounds value, or contradicts
                itself.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError("training settings can't be read", got=str(path), remedy=str(error)) from error
        except ValidationError as error:
            raise ConfigError(f"training settings in {path} can't be used", expected=_first_fault(error)) from error

    @classmethod
    def in_folder(cls, model: str) -> Self:
        """What a model folder's `rankloop_training.json` says, if it has one."""
        path = Path(model) / TRAINING_CONFIG_FILE
        return cls.from_file(path) if path.is_file() else cls()

    @classmethod
    def for_model(cls, model: str) -> Self:
        """The settings in a model folder's `rankloop_training.json`, else defaults that suit the model."""
        return cls.in_folder(model).suited_to(model)

    def suited_to(self, model: str) -> Self:
        """With defaults that follow the model, for what isn't set.

        A chat model's answers are sampled longer and cooler, and answers are read as long as they are sampled.

        Raises:
            ConfigError: answers are to be longer than they are read.
        """
        sampling = self.sampling
        if self.text.chat_template == "auto" and has_chat_template(model):
            sampling = SamplingConfig.model_validate({**CHAT_SAMPLING, **sampling.model_dump(exclude_unset=True)})
        text = self.text
        if text.max_answer_tokens <= sampling.max_new_tokens and "max_answer_tokens" not in text.model_fields_set:
            text = text.model_copy(update={"max_answer_tokens": sampling.max_new_tokens + 1})
        if text.max_answer_tokens < sampling.max_new_tokens:
            raise ConfigError(
                "answers would be sampled longer than they are read",
                got=f"sampling.max_new_tokens = {sampling.max_new_tokens}",
                expected=f"at most text.max_answer_tokens = {text.max_answer_tokens}",
            )
        return self.model_copy(update={"text": text}).sampled(sampling)

    def told(self, system_prompt: str | None, max_new_tokens: int | None) -> Self:
        """With a project's own system prompt and answer length, where they aren't None."""
        text: dict[str, Any] = {} if system_prompt is None else {"system_prompt": system_prompt}
        if max_new_tokens is not None:
            text["max_answer_tokens"] = max(self.text.max_answer_tokens, max_new_tokens + 1)
        changed = self.model_copy(update={"text": self.text.model_copy(update=text)})
        return changed.sampled(self.sampling.changed(max_new_tokens=max_new_tokens))

    def sampled(self, sampling: SamplingConfig) -> Self:
        """With another sampling, throughout."""
        ppo = self.ppo.model_copy(update={"sampling": sampling})
        return self.model_copy(update={"sampling": sampling, "ppo": ppo})

    def save(self, path: Path) -> None:
        """Write every setting as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def has_chat_template(model: str) -> bool:
    """Whether a model's tokenizer has a chat template: of a folder, a .gguf file (taken to have one), or on the hub."""
    if is_gguf(model):
        return True
    folder = Path(model)
    if not folder.is_dir():
        found = _hub_folder(model)
        if found is None:
            return False
        folder = found
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def is_gguf(model: str) -> bool:
    """Whether a model is named as a .gguf file."""
    return model.lower().endswith(".gguf")


def _hub_folder(model: str) -> Path | None:
    """Where the hub's client keeps a model's tokenizer settings, which it fetches if need be; None if it can't."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=["tokenizer_config.json", "chat_template.jinja"]))
    except (OSError, ValueError):  # a bad name, no network, no such model: loading the model says which
        return None


def _as_given(part: Any) -> Any:
    """A part of a config as a dictionary of what was set."""
    return {} if part is None else part.model_dump(exclude_unset=True) if isinstance(part, BaseModel) else part


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    return f"{key}: {fault['msg']} (got {fault['input']!r})"
