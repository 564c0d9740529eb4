"""A uniform view of any decoder-only transformer: embed, run blocks, normalise, project.

Training needs the activations *between* two blocks, so that frozen layers run once and their output is reused.
Hugging Face models don't expose them, so an adapter per architecture does.

Legend: B batch, T tokens, H hidden size, V vocabulary, N selected tokens.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.errors import ModelError
from training.fast import use_short_attention


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What every block needs besides the hidden states, computed once per batch.

    positions: (B, T) long, counted over real tokens.
    arguments: keyword arguments of a block's forward, for instance its attention mask or rotary embeddings.
    """

    positions: Tensor
    arguments: Mapping[str, Any]


class TopLayers(nn.Module):
    """The blocks from some depth up and the final norm: the part of a model that is trained.

    Args:
        blocks: transformer blocks, lowest first.
        norm: the final norm.
    """

    def __init__(self, blocks: Sequence[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Map hidden states (B, T, H) at this part's depth to final, normalised hidden states (B, T, H)."""
        for block in self.blocks:
            hidden = block(hidden, **context.arguments)
        return self.norm(hidden)  # type: ignore[no-any-return]


class Backbone(ABC):
    """A causal language model in parts. To add an architecture, subclass it in `training/models/architectures.py`.

    Args:
        model: the Hugging Face model; its weights are used in place, not copied.

    EMBEDDINGS, BLOCKS and NORM are the attribute paths of its parts.
    """

    EMBEDDINGS: ClassVar[tuple[str, ...]]
    BLOCKS: ClassVar[str]
    NORM: ClassVar[str]

    def __init__(self, model: Any) -> None:
        self.model = model
        without_dropout(model)
        use_short_attention(model)  # which treats "no mask" as causal, the fast path for right-padded batches

    @property
    def embeddings(self) -> Mapping[str, nn.Module]:
        """The modules outside the blocks, the output head among them, by attribute path in the model."""
        return {path: self.model.get_submodule(path) for path in self.EMBEDDINGS}

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks, lowest first."""
        blocks: nn.ModuleList = self.model.get_submodule(self.BLOCKS)
        return blocks

    @property
    def norm(self) -> nn.Module:
        """The final norm."""
        norm: nn.Module = self.model.get_submodule(self.NORM)
        return norm

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.model.config.hidden_size)

    @property
    def max_positions(self) -> int:
        """The longest sequence the model can read, in tokens: its positions, or its sliding window if shorter."""
        positions = self.model.config.max_position_embeddings
        return int(min(positions, getattr(self.model.config, "sliding_window", None) or positions))

    @abstractmethod
    def context(self, mask: Tensor) -> BlockContext:
        """What blocks need for a batch whose real tokens are `mask` (B, T) bool, padded on either side."""

    @abstractmethod
    def embed(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Token ids (B, T) long to the hidden states (B, T, H) that enter the first block."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Final, normalised hidden states (..., H) to logits (..., V)."""
        return self.model.get_output_embeddings()(hidden)  # type: ignore[no-any-return]

    @property
    def n_layers(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.norm.parameters()).device

    def run(self, hidden: Tensor, context: BlockContext, start: int, stop: int) -> Tensor:
        """Run blocks `start` to `stop` (exclusive) on hidden states (B, T, H)."""
        for block in self.blocks[start:stop]:
            hidden = block(hidden, **context.arguments)
        return hidden

    def finish_at(self, top: TopLayers, hidden: Tensor, context: BlockContext, places: Tensor) -> Tensor:
        """Apply `top` to hidden states (B, T, H), keeping only `places` (B, K) long of each row: (B, K, H).

        An architecture may override it to skip the last layer's work at all other tokens.
        """
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        return top(hidden, context)[rows, places]  # type: ignore[no-any-return]

    def activations(self, ids: Tensor, context: BlockContext, depths: Iterable[int]) -> dict[int, Tensor]:
        """Hidden states (B, T, H) entering the block at each depth, for ids (B, T) long, in one pass. No gradient."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            hidden, reached = self.embed(ids, context), 0
            for depth in sorted(set(depths)):
                hidden, reached = self.run(hidden, context, reached, depth), depth
                found[depth] = hidden
        return found

    def top(self, start: int) -> TopLayers:
        """The blocks from `start` up and the final norm, sharing their weights with the model."""
        return TopLayers(list(self.blocks[start:]), self.norm)

    def copy_of_top(self, start: int) -> TopLayers:
        """The same, with their own weights."""
        return copy.deepcopy(self.top(start))

    def trunk_parameters(self, depth: int) -> Iterator[tuple[str, Tensor]]:
        """Names and values of everything below block `depth`: embeddings, rotary frequencies, output head, blocks."""
        for path, module in self.embeddings.items():
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                yield f"{path}.{name}", value
        for index, block in enumerate(self.blocks[:depth]):
            for name, value in block.named_parameters():
                yield f"blocks.{index}.{name}", value

    def trunk_digest(self, depth: int) -> str:
        """A hash of everything below block `depth`, to tell whether two models share it bit for bit."""
        return tensor_digest(self.trunk_parameters(depth))

    def share_trunk(self, base: Backbone, depth: int) -> None:
        """Replace this model's modules below block `depth` with `base`'s, so that their weights are held only once.

        Raises:
            ModelError: the two differ there, so shared activations would be wrong.
        """
        if base.n_layers != self.n_layers:
            raise ModelError(
                "the policy isn't a version of the base model",
                got=f"{self.n_layers} layers",
                expected=f"{base.n_layers} layers",
            )
        theirs = dict(base.trunk_parameters(depth))
        ours = dict(self.trunk_parameters(depth))
        differing = [name for name in theirs if name not in ours or not _same(ours[name], theirs[name])]
        if differing or len(ours) != len(theirs):
            raise ModelError(
                "the policy's frozen layers differ from the base model's",
                got=differing[:3] or sorted(set(ours) - set(theirs))[:3],
                expected=f"embeddings and the first {depth} layers bit for bit as in the base",
                remedy="Start from the base or from a version trained from it, with the same trainable_layers.",
            )
        for path, module in base.embeddings.items():
            self.model.set_submodule(path, module)
        for index in range(depth):
            self.blocks[index] = base.blocks[index]


def tensor_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of tensors with their names, shapes and dtypes, in the order given."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in named:
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def without_dropout(module: nn.Module) -> None:
    """Disable dropout permanently: with it, two passes disagree, and PPO's ratios would measure noise."""
    module.eval()
    child: Any
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        elif isinstance(getattr(child, "attention_dropout", None), float):
            child.attention_dropout = 0.0


def attention_mask(mask: Tensor) -> Tensor | None:
    """(B, 1, T, T) bool, True where a query may attend; None if causality alone hides the padding.

    Padding on the right comes after every real token, so no real token sees it. A padding query attends to itself,
    since a softmax over nothing is NaN.
    """
    is_padded_right = not bool((mask[:, 1:] & ~mask[:, :-1]).any())
    if is_padded_right:
        return None
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((causal & mask[:, None, :]) | itself)[:, None]


def _same(left: Tensor, right: Tensor) -> bool:
    return left is right or (left.shape == right.shape and torch.equal(left.to(right.device), right))
