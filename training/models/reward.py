"""The reward model: the base's lower layers, its own top layers, and a score head at the end of the sequence.

The head reads the last real token (the end of text) and the one before it (the answer's last word), for each the
output of the top layers and of the frozen trunk. With few pairs this learns more than the top layers' output at the
end of text alone: a small model's end-of-text token rarely summarises the text, while the last word's activations
reflect what was said, and the trunk's still encode position and sentence count in a simple form.

Legend: B batch, T tokens, H hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.data import Prompt
from training.errors import CheckpointError, ModelError, first_line
from training.fast import full_precision
from training.models.architectures import backbone_of
from training.models.backbone import Backbone, BlockContext
from training.models.policy import reward_layer_count
from training.models.text import TextCodec, pad_right

WEIGHTS_FILE = "reward_model.safetensors"
CONFIG_FILE = "reward_config.json"


class _SavedConfig(BaseModel):
    """The content of `reward_config.json`, beside the weights."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # older versions wrote more

    n_layers: int
    own_layers: int
    heads: Annotated[int, Field(ge=1)] = 1
    hidden_size: int
    base_digest: str
    temperature: Annotated[float, Field(gt=0.0)]


class RewardModel(nn.Module):
    """Scores how much people are likely to like an answer.

    Only the top layers, the final norm and the head are its own; the layers below are the base's, so one pass over
    them serves reference and reward model. The head starts at zero, so every pair starts tied.

    Args:
        base: the base model (a transformers PreTrainedModel); it is frozen.
        own_layers: how many top layers are trained, from `reward_layer_count`.
        heads: how many heads read the same features. Trained on resampled pairs, they disagree where data are scarce.

    Attributes:
        depth: how many of the base's layers lie below its own.
        temperature: score differences divided by it are calibrated log-odds.
        uncertainty_penalty: how many standard deviations of the heads' scores to subtract from their mean.
    """

    def __init__(self, base: Any, own_layers: int, heads: int = 1) -> None:
        super().__init__()
        base.requires_grad_(requires_grad=False)
        self._base = backbone_of(base)
        self.depth = self._base.n_layers - own_layers
        self.top = self._base.copy_of_top(self.depth).requires_grad_()
        self.head = nn.Linear(4 * self._base.hidden_size, heads, device=self._base.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.temperature = 1.0
        self.uncertainty_penalty = 0.0

    @classmethod
    def on_base(cls, base: Any, frozen_share: float, heads: int = 1) -> Self:
        """A new reward model that keeps the first `frozen_share` of the base's layers frozen."""
        return cls(base, reward_layer_count(backbone_of(base).n_layers, frozen_share), heads)

    @property
    def heads(self) -> int:
        """K, the number of heads."""
        return self.head.out_features

    @property
    def base(self) -> Backbone:
        """The frozen base."""
        return self._base

    def trunk(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Hidden states (B, T, H) below its own layers. No gradient."""
        return self._base.activations(ids, context, [self.depth])[self.depth]

    def forward(self, trunk: Tensor, context: BlockContext, last: Tensor) -> Tensor:
        """Scores (B,) from trunk activations (B, T, H): the heads' mean, minus the uncertainty penalty."""
        scores = self.head_scores(trunk, context, last)
        if self.uncertainty_penalty and self.heads > 1:
            return scores.mean(dim=-1) - self.uncertainty_penalty * scores.std(dim=-1)
        return scores.mean(dim=-1)

    def head_scores(self, trunk: Tensor, context: BlockContext, last: Tensor) -> Tensor:
        """Scores (B, K) of every head, read at each row's `last` (B,) token and the one before."""
        places = torch.stack([last, (last - 1).clamp(min=0)], dim=1)
        rows = torch.arange(len(trunk), device=trunk.device)[:, None]
        hidden = self._base.finish_at(self.top, trunk, context, places)
        below = F.layer_norm(trunk[rows, places], trunk.shape[-1:])
        features = torch.cat([hidden.flatten(1), below.flatten(1)], dim=-1)
        with full_precision(hidden.device):
            return self.head(features.float())  # type: ignore[no-any-return]

    def score(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Scores (B,) of whole sequences: ids (B, T) long, mask (B, T) bool, padded on either side. No gradient."""
        context = self._base.context(mask)
        return self.score_over(self.trunk(ids, context), ids, mask, context)

    @torch.no_grad()
    def score_over(self, trunk: Tensor, ids: Tensor, mask: Tensor, context: BlockContext) -> Tensor:  # noqa: ARG002
        """The same, from trunk activations (B, T, H) that are already known.

        All scoring passes through here, with the tokens available: override it to score by a rule.
        """
        return self(trunk, context, last_real_token(mask))  # type: ignore[no-any-return]

    def score_texts(
        self, codec: TextCodec, prompts: Sequence[Prompt], answers: Sequence[str], batch: int = 32
    ) -> Tensor:
        """Scores (B,) float32 of answers to prompts, on the CPU, in the order given.

        Args:
            codec: joins prompt and answer just as in training.
            prompts: as many as there are answers.
            answers: without an end-of-text token; the codec adds it.
            batch: sequences per forward pass, grouped by length to reduce padding.
        """
        pairs = sequences_of(codec, prompts, answers, self._base.max_positions)
        sequences = [prompt + answer for prompt, answer in pairs]
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        scores = torch.zeros(len(sequences))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            ids, mask = pad_right([sequences[index] for index in chosen], codec.pad_id)
            device = self._base.device
            scores[chosen] = self.score(ids.to(device), mask.to(device)).float().cpu()
        return scores

    def preference_probability(self, difference: float) -> float:
        """Calibrated probability that people prefer the first of two answers whose scores differ by `difference`."""
        scaled = difference / self.temperature
        return 1.0 / (1.0 + math.exp(-scaled)) if scaled >= 0 else math.exp(scaled) / (1.0 + math.exp(scaled))

    def save(self, folder: Path) -> None:
        """Write its own weights and what is needed to load them onto the same base."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()},
            folder / WEIGHTS_FILE,
        )
        config = _SavedConfig(
            n_layers=self._base.n_layers,
            own_layers=self._base.n_layers - self.depth,
            heads=self.heads,
            hidden_size=self._base.hidden_size,
            base_digest=self._base.trunk_digest(self.depth),
            temperature=self.temperature,
        )
        (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, base: Any) -> Self:
        """Load a saved reward model onto its base.

        Raises:
            ModelError: a file is missing or damaged, or the base isn't the one it was trained on.
        """
        try:
            config = _SavedConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, ValidationError, SafetensorError) as error:
            raise ModelError(
                "the reward model can't be loaded",
                got=str(folder),
                expected=f"a folder with {WEIGHTS_FILE} and {CONFIG_FILE}",
                remedy=first_line(error),
            ) from error
        backbone = backbone_of(base)
        depth = config.n_layers - config.own_layers
        if backbone.n_layers != config.n_layers or backbone.trunk_digest(depth) != config.base_digest:
            raise ModelError(
                "the reward model was trained on another base model",
                got=f"a base of {backbone.n_layers} layers, digest {backbone.trunk_digest(depth)}",
                expected=f"{config.n_layers} layers, digest {config.base_digest}",
                remedy="Load the base it was trained on, or retrain it on this one.",
            )
        model = cls(base, config.own_layers, config.heads)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError("the reward model's weights don't fit its base", got=str(folder)) from error
        model.temperature = config.temperature
        return model


def sequences_of(
    codec: TextCodec, prompts: Sequence[Prompt], answers: Sequence[str], max_tokens: int
) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers as token ids, the answers with their end of text.

    If they exceed `max_tokens` together, the model's limit, the prompt's beginning is cut off, and the cut counted.
    """
    encoded = zip(codec.encode_prompts(prompts), codec.encode_answers(answers), strict=True)
    texts = zip(prompts, answers, strict=True)
    return [codec.fit(*text, ids, max_tokens) for text, ids in zip(texts, encoded, strict=True)]


def last_real_token(mask: Tensor) -> Tensor:
    """The index (B,) long of each row's last real token, for padding on either side."""
    length = mask.shape[1]
    return length - 1 - mask.flip(1).long().argmax(dim=1)


def spread(scores: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation of scores, the latter never 0, for normalising them."""
    values = torch.tensor(list(scores), dtype=torch.float64)
    deviation = float(values.std()) if len(values) > 1 else 1.0
    return (float(values.mean()) if len(values) else 0.0), (deviation if deviation > 1e-6 else 1.0)
