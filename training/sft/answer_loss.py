"""The loss of supervised training.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from training.fast import full_precision
from training.models import backbone_of
from training.objectives import gather_logprobs


class AnswerLoss(nn.Module):
    """The negative log-likelihood of target tokens; logits are computed only where one is predicted.

    Args:
        model: a transformers PreTrainedModel.
        depth: how many of its blocks are frozen; 0 also trains what lies before them.
        recompute: whether to compute the trained blocks again in the backward pass, which saves memory.
    """

    def __init__(self, model: Any, depth: int = 0, *, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        self._backbone = backbone_of(model)
        self._depth, self._recompute = depth, recompute

    def forward(self, ids: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Sum in nats over the tokens of `ids` (B, T) long where `targets` (B, T) bool is True; `mask`: real tokens."""
        backbone = self._backbone
        context = backbone.context(mask)
        top = backbone.top(self._depth)
        top.recompute = self._recompute
        if self._depth:
            below = backbone.activations(ids, context, [self._depth])[self._depth]
        else:
            below = backbone.embed(ids, context)
        hidden = top(below, context)[:, :-1][targets[:, 1:]]
        with full_precision(hidden.device):  # at logits of 100, bfloat16 has steps of a half
            logits = backbone.logits(hidden.float())
        return -gather_logprobs(logits, ids[:, 1:][targets[:, 1:]]).sum()
