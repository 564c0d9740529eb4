"""A linear probe: scores read from activations of the frozen base, pooled over the answer; and what is saved with it.

Legend: B batch, T tokens, H hidden size, S sites, K models of the ensemble, J judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.fast import full_precision

Pool = Literal["mean", "last"]
"""How an answer's activations become one vector: their mean over its tokens, or those of its end of text."""


class Site(NamedTuple):
    """Where a probe reads: the depth in layers (0 is the embeddings), and how it pools."""

    depth: int
    pool: Pool


WEIGHTS_FILE = "reward_model.safetensors"
CONFIG_FILE = "reward_config.json"


class SavedReward(BaseModel):
    """The content of `reward_config.json`, beside the weights. Older versions wrote no probe."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # older versions wrote more

    n_layers: int
    own_layers: Annotated[int, Field(ge=0)]
    heads: Annotated[int, Field(ge=1)] = 1
    judges: Annotated[int, Field(ge=0)] = 0
    sites: tuple[Site, ...] = ()
    hidden_size: int
    base_digest: str
    digest_depth: int | None = None
    temperature: Annotated[float, Field(gt=0.0)]
    uncertainty_scale: Annotated[float, Field(gt=0.0)] = 1.0


class Probe(nn.Module):
    """Several linear models of the same pooled activations; none is trained here, `training.reward` fits them.

    Args:
        sites: where it reads.
        hidden_size: H.
        heads: K, the models of the ensemble, whose mean is the score.
        judges: J, models that learned from other pairs than what they judge was trained with.

    Attributes:
        weight: (K + J, S * H).
        center: (S * H,), the mean activations of the answers it was fitted on, which score 0.
    """

    def __init__(self, sites: Sequence[Site], hidden_size: int, heads: int, judges: int = 0) -> None:
        super().__init__()
        self.sites = tuple(Site(*site) for site in sites)
        self.heads, self.judges = heads, judges
        size = len(self.sites) * hidden_size
        self.weight = nn.Parameter(torch.zeros(heads + judges, size), requires_grad=False)
        self.center = nn.Parameter(torch.zeros(size), requires_grad=False)

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths it reads, lowest first."""
        return tuple(sorted({site.depth for site in self.sites}))

    def so_far(self, activations: Mapping[int, Tensor], answer: Tensor) -> Tensor:
        """The ensemble's score (B, T) of each answer as if it ended at that token; arguments as in `forward`.

        Where the probe reads the end of text, it reads that token in its place. So these scores are rough, and a critic
        has to learn what they say of the whole answer, see `training.ppo.critic`.
        """
        weights = (self.weight[: self.heads].mean(dim=0), self.center)
        count = answer.cumsum(dim=1).clamp(min=1)
        found = torch.zeros(answer.shape, device=answer.device)
        with full_precision(answer.device):
            for site, weight, center in zip(
                self.sites, *(part.view(len(self.sites), -1) for part in weights), strict=True
            ):
                hidden = activations[site.depth].float()
                each = F.layer_norm(hidden, hidden.shape[-1:]) @ weight
                pooled = (each * answer).cumsum(dim=1) / count if site.pool == "mean" else each
                found = found + pooled - center @ weight
        return found

    def forward(self, activations: Mapping[int, Tensor], answer: Tensor, last: Tensor) -> Tensor:
        """Scores (B, K + J) by every model.

        Args:
            activations: (B, T, H) by depth.
            answer: (B, T) bool, the answer's tokens, end of text included.
            last: (B,) long, the place of the end of text.
        """
        pooled = {depth: pool_answer(activations[depth], answer, last) for depth in self.depths}
        features = torch.cat([pooled[site.depth][site.pool] for site in self.sites], dim=-1)
        with full_precision(features.device):
            return (features - self.center) @ self.weight.T


def pool_answer(hidden: Tensor, answer: Tensor, last: Tensor) -> dict[Pool, Tensor]:
    """Hidden states (B, T, H) normalised at each token and pooled, by every way there is: each (B, H) float32.

    Args:
        hidden: activations at one depth.
        answer: (B, T) bool, the answer's tokens.
        last: (B,) long, the place of the end of text.
    """
    # Normalised first: a few dimensions of some tokens are a thousand times the others and would drown them.
    plain = F.layer_norm(hidden.float(), hidden.shape[-1:])
    counted = answer[:, :, None].float()
    with full_precision(hidden.device):
        mean = (plain * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return {"mean": mean, "last": plain[torch.arange(len(plain), device=plain.device), last]}
