"""The reward model: a linear probe of the frozen base, and, where that is better, top layers of its own.

The probe reads activations of the base pooled over the answer (`training/models/probe.py`). The own top layers have a
head that reads the last real token (the end of text) and the one before it (the answer's last word), for each the
output of the top layers and of the frozen trunk; it adds to the probe's scores. Either part may be missing.

Legend: B batch, T tokens, H hidden size, K models of the ensemble, J judges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.data import Prompt
from training.errors import CheckpointError, ModelError, first_line
from training.fast import full_precision
from training.models.architectures import backbone_of
from training.models.backbone import Backbone, BlockContext, TopLayers
from training.models.policy import reward_layer_count
from training.models.probe import CONFIG_FILE, WEIGHTS_FILE, Probe, SavedReward
from training.models.sequences import last_real_token, pad_answers, sequences_of
from training.models.text import TextCodec


class RewardModel(nn.Module):
    """Scores how much people are likely to like an answer.

    Only the probe's weights, the top layers, their norm and their head are its own; everything else is the base's, so
    one pass over it serves reference and reward model. Without a probe the score is the head's alone, which starts at
    zero, so every pair starts tied; with one, training starts from the probe's ranking.

    Args:
        base: the base model (a transformers PreTrainedModel); it is frozen.
        own_layers: how many top layers are its own, from `reward_layer_count`; 0 for a probe alone.
        heads: without a probe, how many heads read the top layers. Trained on resampled pairs, they disagree.
        probe: scores the frozen base's activations; its models are then the ensemble.

    Attributes:
        depth: how many of the base's layers lie below its own.
        temperature: score differences divided by it are calibrated log-odds.
        uncertainty_scale: what turns the deviation of the ensemble's scores into a standard error.
        uncertainty_penalty: how many standard errors to subtract from the ensemble's mean.
    """

    def __init__(self, base: Any, own_layers: int, heads: int = 1, probe: Probe | None = None) -> None:
        super().__init__()
        base.requires_grad_(requires_grad=False)
        self._base = backbone_of(base)
        self.depth = self._base.n_layers - own_layers
        self.top = self._base.copy_of_top(self.depth) if own_layers else TopLayers([], nn.Identity(), self.depth)
        self.top.requires_grad_()
        self.head = nn.Linear(4 * self._base.hidden_size, heads, device=self._base.device)  # unused by a probe alone
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.probe = probe
        self.temperature = 1.0
        self.uncertainty_scale = 1.0
        self.uncertainty_penalty = 0.0

    @classmethod
    def on_base(cls, base: Any, frozen_share: float, heads: int = 1) -> Self:
        """A new reward model without a probe that keeps the first `frozen_share` of the base's layers frozen."""
        return cls(base, reward_layer_count(backbone_of(base).n_layers, frozen_share), heads)

    @property
    def heads(self) -> int:
        """K, how many models its ensemble has."""
        return self.head.out_features if self.probe is None else self.probe.heads

    @property
    def judges(self) -> int:
        """J, how many models judge that learned from other pairs; see `score_and_judge`."""
        return 0 if self.probe is None else self.probe.judges

    @property
    def own_layers(self) -> int:
        """How many top layers are its own."""
        return self._base.n_layers - self.depth

    @property
    def base(self) -> Backbone:
        """The frozen base."""
        return self._base

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths at which it reads the base's activations, lowest first."""
        read = set() if self.probe is None else set(self.probe.depths)
        return tuple(sorted(read | {self.depth} if self.own_layers else read))

    def trunk(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Hidden states (B, T, H) below its own layers. No gradient."""
        return self._base.activations(ids, context, [self.depth])[self.depth]

    def activations(self, ids: Tensor, context: BlockContext) -> dict[int, Tensor]:
        """Hidden states (B, T, H) at each of its `depths`, in one pass. No gradient."""
        return self._base.activations(ids, context, self.depths)

    def top_scores(self, trunk: Tensor, context: BlockContext, last: Tensor) -> Tensor:
        """Scores (B, heads) of its own layers, from trunk activations (B, T, H).

        They are read at each row's `last` (B,) token and the one before.
        """
        places = torch.stack([last, (last - 1).clamp(min=0)], dim=1)
        rows = torch.arange(len(trunk), device=trunk.device)[:, None]
        hidden = self._base.finish_at(self.top, trunk, context, places)
        below = F.layer_norm(trunk[rows, places], trunk.shape[-1:])
        features = torch.cat([hidden.flatten(1), below.flatten(1)], dim=-1)
        with full_precision(hidden.device):
            return self.head(features.float())  # type: ignore[no-any-return]

    def forward(
        self, activations: Mapping[int, Tensor], mask: Tensor, context: BlockContext, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores (B, K) of the ensemble and (B, J) of the judges.

        Args:
            activations: (B, T, H) at each of its `depths`.
            mask: (B, T) bool, real tokens, padded on either side.
            context: of the batch.
            starts: (B,) long, the place of each prompt's last token; only a model without a probe does without.
        """
        scores = self._probed(activations, mask, starts)
        ensemble, judges = scores[:, : self.heads], scores[:, self.heads :]
        if self.own_layers:  # they steer training, so they have no part in judging it
            ensemble = ensemble + self.top_scores(activations[self.depth], context, last_real_token(mask))
        return ensemble, judges

    def _probed(self, activations: Mapping[int, Tensor], mask: Tensor, starts: Tensor | None) -> Tensor:
        """The probe's scores (B, K + J); 0 without one."""
        if self.probe is None:
            return torch.zeros(len(mask), self.heads, device=mask.device)
        if starts is None:
            raise ValueError("a probe needs to know where the prompts end")
        answer = mask & (torch.arange(mask.shape[1], device=mask.device) > starts[:, None])
        return self.probe(activations, answer, last_real_token(mask))  # type: ignore[no-any-return]

    def score(self, ids: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Scores (B,) of whole sequences, without gradient: the ensemble's mean, less the uncertainty penalty.

        Args:
            ids: (B, T) long.
            mask: (B, T) bool, real tokens, padded on either side.
            starts: (B,) long, the place of each prompt's last token.
        """
        context = self._base.context(mask)
        return self.score_over(self.activations(ids, context), ids, mask, context, starts)

    @torch.no_grad()
    def score_over(
        self,
        activations: Mapping[int, Tensor],
        ids: Tensor,  # noqa: ARG002
        mask: Tensor,
        context: BlockContext,
        starts: Tensor | None,
    ) -> Tensor:
        """The same, from activations (B, T, H) at its `depths` that are already known.

        All scoring passes through here, with the tokens available: override it to score by a rule.
        """
        scores, _ = self(activations, mask, context, starts)
        if self.uncertainty_penalty and self.heads > 1:
            return scores.mean(dim=-1) - self.uncertainty_penalty * self._standard_error(scores)  # type: ignore[no-any-return]
        return scores.mean(dim=-1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def score_and_judge(self, ids: Tensor, mask: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (B,) by `score`, and (B,) by the judges, in one pass; the same twice where there are no judges.

        Judges compare policies that were trained against `score`: they learned from other pairs, so they don't confirm
        what a policy gained by exploiting the ensemble's errors. Arguments as in `score`.
        """
        context = self._base.context(mask)
        activations = self.activations(ids, context)
        scores = self.score_over(activations, ids, mask, context, starts)
        judged = self._probed(activations, mask, starts)[:, self.heads :]
        return scores, judged.mean(dim=-1) if self.judges else scores

    @torch.no_grad()
    def uncertainty(self, ids: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """The standard error (B,) of the scores: how far they would move with other judgements; 0 for a single model.

        Arguments as in `score`.
        """
        context = self._base.context(mask)
        return self._standard_error(self(self.activations(ids, context), mask, context, starts)[0])

    def score_texts(
        self,
        codec: TextCodec,
        prompts: Sequence[Prompt],
        answers: Sequence[str],
        batch: int = 32,
        *,
        judge: bool = False,
    ) -> Tensor:
        """Scores (B,) float32 of answers to prompts, on the CPU, in the order given.

        Args:
            codec: joins prompt and answer just as in training.
            prompts: as many as there are answers.
            answers: without an end-of-text token; the codec adds it.
            batch: sequences per forward pass, grouped by length to reduce padding.
            judge: by the judges, see `score_and_judge`.
        """
        pairs = sequences_of(codec, prompts, answers, self._base.max_positions)
        return self.score_sequences(pairs, codec.pad_id, batch)[1 if judge else 0]

    def score_sequences(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int, batch: int = 32
    ) -> tuple[Tensor, Tensor]:
        """`score_and_judge` for B prompts with their answers as token ids, the answers with their end of text."""
        order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
        found, device = torch.zeros(2, len(pairs)), self._base.device
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            ids, mask, starts = pad_answers([pairs[index] for index in chosen], pad_id)
            both = self.score_and_judge(ids.to(device), mask.to(device), starts.to(device))
            found[:, chosen] = torch.stack(both).float().cpu()
        return found[0], found[1]

    def _standard_error(self, scores: Tensor) -> Tensor:
        """The standard error (B,) of the mean of scores (B, K)."""
        if self.heads < 2:
            return torch.zeros(len(scores), device=scores.device)
        return self.uncertainty_scale * scores.std(dim=-1)

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
        config = SavedReward(
            n_layers=self._base.n_layers,
            own_layers=self.own_layers,
            heads=self.heads,
            judges=self.judges,
            sites=() if self.probe is None else self.probe.sites,
            hidden_size=self._base.hidden_size,
            base_digest=self._base.trunk_digest(max(self.depths)),
            digest_depth=max(self.depths),
            temperature=self.temperature,
            uncertainty_scale=self.uncertainty_scale,
        )
        (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, base: Any) -> Self:
        """Load a saved reward model onto its base.

        Raises:
            ModelError: a file is missing or damaged, or the base isn't the one it was trained on.
        """
        try:
            config = SavedReward.model_validate_json((folder / CONFIG_FILE).read_bytes())
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, ValidationError, SafetensorError) as error:
            raise ModelError(
                "the reward model can't be loaded",
                got=str(folder),
                expected=f"a folder with {WEIGHTS_FILE} and {CONFIG_FILE}",
                remedy=first_line(error),
            ) from error
        backbone = backbone_of(base)
        depth = config.n_layers - config.own_layers if config.digest_depth is None else config.digest_depth
        if backbone.n_layers != config.n_layers or backbone.trunk_digest(depth) != config.base_digest:
            raise ModelError(
                "the reward model was trained on another base model",
                got=f"a base of {backbone.n_layers} layers, digest {backbone.trunk_digest(depth)}",
                expected=f"{config.n_layers} layers, digest {config.base_digest}",
                remedy="Load the base it was trained on, or retrain it on this one.",
            )
        probe = None
        if config.sites:
            probe = Probe(config.sites, config.hidden_size, config.heads, config.judges).to(backbone.device)
        model = cls(base, config.own_layers, 1 if probe else config.heads, probe)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError("the reward model's weights don't fit its base", got=str(folder)) from error
        model.temperature, model.uncertainty_scale = config.temperature, config.uncertainty_scale
        return model
